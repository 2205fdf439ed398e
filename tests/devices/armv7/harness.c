/* Runs one kernel without TVM's runtime: float32 tensors, the last of them the result.
 *
 * A file of 64-bit numbers says how many tensors there are, and for each its rank and extents; the data of all
 * but the last follow. The result is written to another file. What a kernel asks of the runtime is here: memory
 * for temporaries, its parallel loops on one thread, and errors.
 *
 *     harness OPERANDS RESULT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

extern int KERNEL(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result);

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  fprintf(stderr, "%s: %s\n", kind, message);
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int i = 0; i < count; i++) fputs(parts[i], stderr);
  fputc('\n', stderr);
}

static void *allocate(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type, (void)id, (void)code, (void)bits;
  return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static int release(int type, int id, void *memory) {
  (void)type, (void)id;
  free(memory);
  return 0;
}

typedef struct { void *handle; int32_t tasks; } group;

static int launch(int (*task)(int, group *, void *), void *data, int tasks) {
  (void)tasks;
  group alone = {0, 1};
  return task(0, &alone, data);
}

/* Pointers in the kernel's object that the runtime sets; one that a kernel does not use is not there. */
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) __attribute__((weak));
extern int (*__TVMBackendFreeWorkspace)(int, int, void *) __attribute__((weak));
extern int (*__TVMBackendParallelLaunch)(int (*)(int, group *, void *), void *, int)
    __attribute__((weak));

#define MOST 8

static int64_t number(FILE *in) {
  int64_t n = -1;
  return fread(&n, sizeof n, 1, in) == 1 ? n : -1;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  if (&__TVMBackendAllocWorkspace) __TVMBackendAllocWorkspace = allocate;
  if (&__TVMBackendFreeWorkspace) __TVMBackendFreeWorkspace = release;
  if (&__TVMBackendParallelLaunch) __TVMBackendParallelLaunch = launch;
  static int64_t shapes[MOST][MOST];
  static size_t bytes[MOST];
  static DLTensor tensors[MOST];
  static TVMFFIAny arguments[MOST], result;
  FILE *in = fopen(argv[1], "rb");
  if (!in) return 3;
  int count = (int)number(in);
  if (count < 1 || count > MOST) return 4;
  for (int i = 0; i < count; i++) {
    int64_t rank = number(in), elements = 1;
    if (rank < 0 || rank > MOST) return 4;
    for (int d = 0; d < rank; d++) elements *= shapes[i][d] = number(in);
    bytes[i] = (size_t)elements * sizeof(float);
    tensors[i].data = allocate(0, 0, bytes[i], 0, 0);
    tensors[i].device.device_type = kDLCPU;
    tensors[i].ndim = (int32_t)rank;
    tensors[i].dtype.code = kDLFloat;
    tensors[i].dtype.bits = 32;
    tensors[i].dtype.lanes = 1;
    tensors[i].shape = shapes[i];
    arguments[i].type_index = kTVMFFIDLTensorPtr;
    arguments[i].v_ptr = &tensors[i];
  }
  for (int i = 0; i < count - 1; i++)
    if (fread(tensors[i].data, 1, bytes[i], in) != bytes[i]) return 4;
  fclose(in);
  if (KERNEL(0, arguments, count, &result)) return 5;
  FILE *out = fopen(argv[2], "wb");
  if (!out || fwrite(tensors[count - 1].data, 1, bytes[count - 1], out) != bytes[count - 1]) return 6;
  return fclose(out);
}
