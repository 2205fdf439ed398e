// The wheel of TVM 0.27 ships tvm/runtime/tensor.h without the header that it includes here: what
// its inline functions name, so that they compile. Nothing in this library calls them.
#pragma once

#include <cstddef>

namespace tvm::support {

class Stream {
 public:
  virtual ~Stream() = default;
  virtual size_t Read(void* data, size_t bytes) = 0;
  virtual size_t Write(const void* data, size_t bytes) = 0;
  template <typename T>
  bool Read(T* value) { return Read(static_cast<void*>(value), sizeof(T)) == sizeof(T); }
  template <typename T>
  void Write(const T& value) { Write(static_cast<const void*>(&value), sizeof(T)); }
  template <typename T>
  bool ReadArray(T* values, size_t count) {
    return Read(static_cast<void*>(values), count * sizeof(T)) == count * sizeof(T);
  }
  template <typename T>
  void WriteArray(const T* values, size_t count) {
    Write(static_cast<const void*>(values), count * sizeof(T));
  }
};

}  // namespace tvm::support
