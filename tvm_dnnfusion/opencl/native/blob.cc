#include "blob.h"

#include <tvm/ffi/error.h>

#include <cstring>

namespace dnnfusion::opencl {

namespace {

static_assert(sizeof(DLDataType) == 4, "argument types are stored as they lie in memory");

class Reader {
 public:
  Reader(const char* data, size_t bytes) : at_(data), left_(bytes) {}

  template <typename T>
  T Value() {
    T value;
    std::memcpy(&value, Take(sizeof(T)), sizeof(T));
    return value;
  }
  std::string Text() {
    const auto bytes = Value<uint64_t>();
    return std::string(Take(bytes), bytes);
  }
  template <typename Read>
  auto List(size_t least_bytes, Read read) {
    const auto count = Value<uint64_t>();
    // a damaged count must not become an allocation of terabytes
    if (count > left_ / least_bytes) Damaged();
    std::vector<decltype(read())> values;
    values.reserve(count);
    for (uint64_t i = 0; i < count; ++i) values.push_back(read());
    return values;
  }
  void End() const {
    if (left_ != 0) Damaged();
  }

 private:
  [[noreturn]] static void Damaged() {
    TVM_FFI_THROW(RuntimeError) << "OpenCL: the module in this library is damaged or was written "
                                   "by another version of TVM";
    TVM_FFI_UNREACHABLE();
  }
  const char* Take(uint64_t bytes) {
    if (bytes > left_) Damaged();
    const char* start = at_;
    at_ += bytes;
    left_ -= bytes;
    return start;
  }
  const char* at_;
  size_t left_;
};

class Writer {
 public:
  template <typename T>
  void Value(const T& value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void Text(const std::string& text) {
    Value<uint64_t>(text.size());
    bytes.append(text);
  }
  std::string bytes;
};

}  // namespace

std::string Write(const Blob& blob) {
  Writer out;
  out.Text(blob.format);
  out.Value<uint64_t>(blob.kernels.size());
  for (const auto& [key, info] : blob.kernels) {
    out.Text(key);
    out.Text(info.name);
    out.Value<uint64_t>(info.types.size());
    for (DLDataType type : info.types) out.Value(type);
    out.Value<uint64_t>(info.tags.size());
    for (const std::string& tag : info.tags) out.Text(tag);
    out.Value<uint64_t>(info.extra_tags.size());
    for (int32_t tag : info.extra_tags) out.Value(tag);
  }
  out.Text(blob.source);
  return out.bytes;
}

Blob Parse(const char* data, size_t bytes) {
  Reader in(data, bytes);
  Blob blob;
  blob.format = in.Text();
  blob.kernels = in.List(2 * sizeof(uint64_t), [&] {
    std::string key = in.Text();
    KernelInfo info;
    info.name = in.Text();
    info.types = in.List(sizeof(DLDataType), [&] { return in.Value<DLDataType>(); });
    info.tags = in.List(sizeof(uint64_t), [&] { return in.Text(); });
    info.extra_tags = in.List(sizeof(int32_t), [&] { return in.Value<int32_t>(); });
    return std::make_pair(std::move(key), std::move(info));
  });
  blob.source = in.Text();
  in.End();
  return blob;
}

}  // namespace dnnfusion::opencl
