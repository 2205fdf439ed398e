/* A plug-in of QEMU's user-mode emulator: how many instructions of each class were executed.
 *
 * Every translated block has a counter, raised by generated code, and a table of its instructions by
 * class; asking sums both over the blocks that lie in a range of addresses. So the counts of a
 * library's code do not depend on what runs beside it. They are exact for one thread; counters of
 * threads that run the same block at once may lose steps.
 *
 * The emulated program asks by a system call that no kernel has:
 *     syscall(0x7a11, lo, hi, counts)     counts: uint64_t[CLASSES], of code in [lo, hi)
 * It returns -ENOSYS, since the kernel sees it too; `counts` is filled before.
 *
 * API 1 of QEMU 6.0 to 7.2, declared here, since Debian packages no header of it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define COUNT_CALL 0x7a11

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
  const char *target_name;
  struct { int min, cur; } version;
  bool system_emulation;
  union { struct { int smp_vcpus, max_vcpus; } system; };
} qemu_info;
typedef void (*translated_cb)(plugin_id, struct qemu_plugin_tb *);
typedef void (*syscall_cb)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t);
enum { INLINE_ADD_U64 = 0 };
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated_cb);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, syscall_cb);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

/* The order is that of `CLASSES` in counters.py. */
enum { ALL, BRANCH, LOAD_STORE, VECTOR_LOAD_STORE, VECTOR, MULTIPLY_ADD, OTHER, CLASSES };

typedef struct block {
  uint64_t executed, first, last;
  struct block *next;
  uint32_t of_class[CLASSES];
} block;

static block *newest;
static int is_a64;
static uint64_t guest_base; /* address here = address there + this */
static int knows_base;

static int matches(uint32_t word, uint32_t mask, uint32_t bits) { return (word & mask) == bits; }

/* A64: FMLA and FMLS of vectors, by element and in half precision, FMADD and kin, SDOT, UDOT and
 * SMMLA and kin, which multiply and add too. Source: ARM's architecture reference manual, C4. */
static int multiplies_and_adds(uint32_t w) {
  return matches(w, 0xbf20fc00, 0x0e20cc00) || /* FMLA, FMLS vectors */
         matches(w, 0xbf60fc00, 0x0e400c00) || /* the same in half precision */
         matches(w, 0xbf80b400, 0x0f801000) || /* by element */
         matches(w, 0xbfc0b400, 0x0f001000) || /* by element in half precision */
         matches(w, 0xff000000, 0x1f000000) || /* FMADD, FMSUB, FNMADD, FNMSUB */
         matches(w, 0x9f20fc00, 0x0e009400) || /* SDOT, UDOT vectors */
         matches(w, 0x9f00f400, 0x0f00e000) || /* by element */
         matches(w, 0xdf20f400, 0x4e00a400);   /* SMMLA, UMMLA, USMMLA */
}

static void classify(uint32_t word, uint32_t *of_class) {
  uint32_t group = (word >> 25) & 15; /* the manual's op0 */
  int vector = (word >> 26) & 1;
  if ((group & 14) == 10) {
    of_class[BRANCH]++;
  } else if ((group & 5) == 4) {
    of_class[vector ? VECTOR_LOAD_STORE : LOAD_STORE]++;
  } else if ((group & 7) == 7 || group == 2) {
    of_class[VECTOR]++;
    of_class[MULTIPLY_ADD] += multiplies_and_adds(word);
  } else {
    of_class[OTHER]++;
  }
}

/* Blocks live for ever; they are taken from large pieces, under QEMU's own lock of translation. */
static block *new_block(void) {
  static block *piece;
  static size_t left;
  if (!left) {
    left = 4096;
    piece = calloc(left, sizeof *piece);
    if (!piece) abort();
  }
  left--;
  return piece++;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
  (void)id;
  size_t count = qemu_plugin_tb_n_insns(tb);
  block *made = new_block();
  made->first = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
  made->last = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, count - 1));
  made->of_class[ALL] = (uint32_t)count;
  for (size_t i = 0; i < count; i++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
    uint32_t word;
    if (!knows_base) {
      guest_base = (uint64_t)qemu_plugin_insn_haddr(instruction) - qemu_plugin_insn_vaddr(instruction);
      knows_base = 1;
    }
    if (!is_a64 || qemu_plugin_insn_size(instruction) != sizeof word) continue;
    memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
    classify(word, made->of_class);
  }
  made->next = __atomic_load_n(&newest, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&newest, &made->next, made, 0, __ATOMIC_RELEASE,
                                      __ATOMIC_RELAXED)) {
  }
  qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &made->executed, 1);
}

static void asked(plugin_id id, unsigned cpu, int64_t number, uint64_t lo, uint64_t hi, uint64_t to,
                  uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)id, (void)cpu, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != COUNT_CALL) return;
  uint64_t sums[CLASSES] = {0};
  for (block *b = __atomic_load_n(&newest, __ATOMIC_ACQUIRE); b; b = b->next) {
    if (b->first < lo || b->last >= hi) continue;
    for (int i = 0; i < CLASSES; i++) sums[i] += b->executed * b->of_class[i];
  }
  memcpy((void *)(guest_base + to), sums, sizeof sums);
}

EXPORT int qemu_plugin_install(plugin_id id, const qemu_info *info, int argc, char **argv) {
  (void)argc, (void)argv;
  is_a64 = !strcmp(info->target_name, "aarch64");
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, asked);
  return 0;
}
