/* Runs one kernel without TVM's runtime: three float32 tensors of n x n, the last of them the result.
 *
 * The operands are read from a file (two matrices), the result is written to another. What a kernel asks
 * of the runtime is here: memory for temporaries, its parallel loops on one thread, and errors.
 *
 *     harness SIDE OPERANDS RESULT
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

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  if (&__TVMBackendAllocWorkspace) __TVMBackendAllocWorkspace = allocate;
  if (&__TVMBackendFreeWorkspace) __TVMBackendFreeWorkspace = release;
  if (&__TVMBackendParallelLaunch) __TVMBackendParallelLaunch = launch;
  int64_t side = atoll(argv[1]), shape[2] = {side, side};
  size_t bytes = (size_t)(side * side) * sizeof(float);
  DLTensor tensors[3];
  TVMFFIAny arguments[3], result;
  memset(&result, 0, sizeof result);
  FILE *in = fopen(argv[2], "rb");
  if (!in) return 3;
  for (int i = 0; i < 3; i++) {
    memset(&tensors[i], 0, sizeof tensors[i]);
    memset(&arguments[i], 0, sizeof arguments[i]);
    tensors[i].data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    tensors[i].device.device_type = kDLCPU;
    tensors[i].ndim = 2;
    tensors[i].dtype.code = kDLFloat;
    tensors[i].dtype.bits = 32;
    tensors[i].dtype.lanes = 1;
    tensors[i].shape = shape;
    arguments[i].type_index = kTVMFFIDLTensorPtr;
    arguments[i].v_ptr = &tensors[i];
    if (i < 2 && fread(tensors[i].data, 1, bytes, in) != bytes) return 4;
  }
  fclose(in);
  if (KERNEL(0, arguments, 3, &result)) return 5;
  FILE *out = fopen(argv[3], "wb");
  if (!out || fwrite(tensors[2].data, 1, bytes, out) != bytes) return 6;
  return fclose(out);
}
