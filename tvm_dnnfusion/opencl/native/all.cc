// One translation unit: the headers of TVM take most of the time, and are read once.
#include "library.cc"   // NOLINT
#include "device.cc"    // NOLINT
#include "devices.cc"   // NOLINT
#include "blob.cc"      // NOLINT
#include "launch.cc"    // NOLINT
#include "device_api.cc"  // NOLINT
#include "module.cc"    // NOLINT
