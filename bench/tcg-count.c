// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU's TCG that counts, while the program load is measuring,
 * what the guest executes:
 *	-plugin tcg-count.so,out=FILE[,copy=FIRST-LAST]...
 * FIRST-LAST are addresses of a routine of the guest's kernel that copies.
 * load's first mark resets the counts, its second one writes a line:
 *	kernel instructions, user instructions, bytes that those routines
 *	stored, bytes stored by vector instructions of user space
 * The last are what memcpy() and memset() of the C library do; nothing else
 * in the guest's user space is vectorised.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu-plugin-api.h"

PUBLIC int qemu_plugin_version = QEMU_PLUGIN_VERSION;

#define MAX_VCPUS	64
#define MAX_RANGES	64

enum { KERNEL, USER, KERNEL_COPIED, USER_COPIED, NR };

/* One writer each: no atomics, no shared cache lines. */
static struct {
	uint64_t n[NR];
	char pad[128 - NR * sizeof(uint64_t)];
} count[MAX_VCPUS];

static struct {
	uint64_t first, last;
} ranges[MAX_RANGES];

static int nr_ranges;
static uint64_t base[NR];
static FILE *out;

static uint64_t sum(int what)
{
	uint64_t v = 0;
	int i;

	for (i = 0; i < MAX_VCPUS; i++)
		v += __atomic_load_n(&count[i].n[what], __ATOMIC_RELAXED);
	return v;
}

static void executed_kernel(unsigned int vcpu, void *insns)
{
	count[vcpu % MAX_VCPUS].n[KERNEL] += (uintptr_t)insns;
}

static void executed_user(unsigned int vcpu, void *insns)
{
	count[vcpu % MAX_VCPUS].n[USER] += (uintptr_t)insns;
}

static void stored(unsigned int vcpu, uint32_t info,
		   uint64_t vaddr, void *what)
{
	/* That only stores are asked for, QEMU 7.2 doesn't heed. */
	if (qemu_plugin_mem_is_store(info))
		count[vcpu % MAX_VCPUS].n[(uintptr_t)what] +=
			1u << qemu_plugin_mem_size_shift(info);
}

static void mark(unsigned int vcpu, void *end)
{
	int i;

	for (i = 0; i < NR; i++) {
		uint64_t v = sum(i);

		if (end)
			fprintf(out, "%" PRIu64 "%c", v - base[i],
				i == NR - 1 ? '\n' : '\t');
		base[i] = v;
	}
	if (end)
		fflush(out);
}

static bool is_copy_routine(uint64_t addr)
{
	int i;

	for (i = 0; i < nr_ranges; i++)
		if (addr >= ranges[i].first && addr < ranges[i].last)
			return true;
	return false;
}

/* VEX, EVEX, and SSE's moves of 16 bytes. */
static bool is_vector(const uint8_t *p, size_t len)
{
	if (p[0] == 0xc4 || p[0] == 0xc5 || p[0] == 0x62)
		return true;
	while (len > 3 && (*p == 0x66 || *p == 0xf2 || *p == 0xf3 ||
			   (*p & 0xf0) == 0x40)) {
		p++;
		len--;
	}
	if (len < 3 || *p != 0x0f)
		return false;
	return p[1] == 0x11 || p[1] == 0x29 || p[1] == 0x2b || p[1] == 0x7f ||
	       p[1] == 0xe7;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	static const uint8_t nop[] = { 0x0f, 0x1f, 0x80 };
	size_t i, n = qemu_plugin_tb_n_insns(tb);
	bool kernel = qemu_plugin_tb_vaddr(tb) >> 63;

	qemu_plugin_register_vcpu_tb_exec_cb(tb, kernel ? executed_kernel :
					     executed_user,
					     NO_REGS,
					     (void *)(uintptr_t)n);
	for (i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		size_t len = qemu_plugin_insn_size(insn);
		uint32_t magic;
#if QEMU_PLUGIN_VERSION >= 3
		uint8_t d[16];

		qemu_plugin_insn_data(insn, d, sizeof(d));
#else
		const uint8_t *d = qemu_plugin_insn_data(insn);
#endif

		if (kernel) {
			if (is_copy_routine(qemu_plugin_insn_vaddr(insn)))
				qemu_plugin_register_vcpu_mem_cb(insn, stored,
					NO_REGS,
					STORES,
					(void *)(uintptr_t)KERNEL_COPIED);
			continue;
		}
		if (is_vector(d, len))
			qemu_plugin_register_vcpu_mem_cb(insn, stored,
				NO_REGS, STORES,
				(void *)(uintptr_t)USER_COPIED);
		if (len != 7 || memcmp(d, nop, sizeof(nop)))
			continue;
		memcpy(&magic, d + 3, sizeof(magic));
		if (magic == 0x7a636230 || magic == 0x7a636231)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, mark,
				NO_REGS,
				(void *)(uintptr_t)(magic & 1));
	}
}

PUBLIC int qemu_plugin_install(uint64_t id,
					   const struct qemu_info_t *info, int argc,
					   char **argv)
{
	int i;

	for (i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4)) {
			out = fopen(argv[i] + 4, "w");
			continue;
		}
		if (nr_ranges == MAX_RANGES ||
		    sscanf(argv[i], "copy=%" SCNx64 "-%" SCNx64,
			   &ranges[nr_ranges].first,
			   &ranges[nr_ranges].last) != 2) {
			fprintf(stderr, "tcg-count: %s?\n", argv[i]);
			return -1;
		}
		nr_ranges++;
	}
	if (!out) {
		fprintf(stderr, "tcg-count: no out=FILE, or can't write it\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
