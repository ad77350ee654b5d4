// SPDX-License-Identifier: GPL-2.0
/*
 * Random direct I/O on a block device for a fixed time, and what the machine
 * did meanwhile. Like fio with libaio, whose start and end under emulation
 * take longer than what is measured here, and would be in every counter.
 *
 * Each job is a process that keeps its depth of I/Os in flight. The first
 * process waits until all are under way, then takes the counters twice.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_JOBS	16
#define MAX_DEPTH	128

/* Long NOPs for the plugin of the emulator to see: tcg-count.c. */
static inline void mark_begin(void)
{
	asm volatile(".byte 0x0f, 0x1f, 0x80; .long 0x7a636230");
}

static inline void mark_end(void)
{
	asm volatile(".byte 0x0f, 0x1f, 0x80; .long 0x7a636231");
}

#define load(v)		__atomic_load_n(&(v), __ATOMIC_RELAXED)
#define store(v, n)	__atomic_store_n(&(v), n, __ATOMIC_RELAXED)

struct job {
	uint64_t done;
	char pad[56];		/* no cache line is shared */
};

struct shared {
	bool stop;
	struct job jobs[MAX_JOBS];
};

static struct {
	const char *dev, *hugefile, *statistics;
	bool write;
	size_t bs;
	int depth, jobs, ms, warm_ms;
	uint64_t span, min_ios;
} opt = { .depth = 1, .jobs = 1, .ms = 400, .warm_ms = 100, .min_ios = 32,
	  .bs = 4096 };

static struct shared *sh;

/* --- counters ------------------------------------------------------ */

enum source { STAT, VMSTAT, INTERRUPTS, TCMU };

static const struct {
	const char *column;
	enum source source;
	const char *key;
} counters[] = {
	{ "ctxt", STAT, "ctxt" },
	{ "pgfault", VMSTAT, "pgfault" },
	{ "tlb_all", VMSTAT, "nr_tlb_local_flush_all" },
	{ "tlb_one", VMSTAT, "nr_tlb_local_flush_one" },
	{ "tlb_remote", VMSTAT, "nr_tlb_remote_flush" },
	{ "ipi_tlb", INTERRUPTS, "TLB:" },
	{ "ipi_call", INTERRUPTS, "CAL:" },
	{ "ipi_resched", INTERRUPTS, "RES:" },
	{ "copied_bytes", TCMU, "copied_bytes" },
	{ "mapped_bytes", TCMU, "mapped_bytes" },
	{ "inplace_bytes", TCMU, "inplace_bytes" },
	{ "pages", TCMU, "pages" },
	{ "unmaps", TCMU, "unmaps" },
	{ "faults", TCMU, "faults" },
	{ "ahead", TCMU, "ahead" },
};

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define NR_COUNTERS	ARRAY_SIZE(counters)

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static ssize_t slurp(const char *path, char *buf, size_t len)
{
	size_t got = 0;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	while ((n = read(fd, buf + got, len - 1 - got)) > 0)
		got += n;
	close(fd);
	buf[got] = 0;
	return got;
}

/* The sum of the numbers that follow key at the start of a line. */
static int64_t find(const char *text, const char *key)
{
	size_t len = strlen(key);
	const char *p = text;
	int64_t sum = 0;
	char *end;

	for (; p; p = strchr(p, '\n')) {
		p += strspn(p, "\n ");
		if (strncmp(p, key, len) || p[len] != ' ')
			continue;
		for (p += len;; p = end) {
			uint64_t v;

			p += strspn(p, " ");
			v = strtoull(p, &end, 10);
			if (end == p)
				return sum;
			sum += v;
		}
	}
	return -1;
}

/* -1 for what is not there. */
static void take(int64_t *v)
{
	static char text[3][1 << 16];
	static const char * const path[] = {
		"/proc/stat", "/proc/vmstat", "/proc/interrupts",
	};
	char name[256], val[64];
	size_t i;

	for (i = 0; i < 3; i++)
		if (slurp(path[i], text[i], sizeof(text[i])) < 0)
			die(path[i]);
	for (i = 0; i < NR_COUNTERS; i++) {
		v[i] = -1;
		if (counters[i].source != TCMU) {
			v[i] = find(text[counters[i].source], counters[i].key);
			continue;
		}
		if (!opt.statistics)
			continue;
		snprintf(name, sizeof(name), "%s/%s", opt.statistics,
			 counters[i].key);
		if (slurp(name, val, sizeof(val)) > 0)
			v[i] = strtoll(val, NULL, 0);
	}
}

/* --- I/O ----------------------------------------------------------- */

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static char *buffers(int nr)
{
	size_t len = opt.bs * opt.depth;
	int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	off_t off = 0;
	char *p;

	if (opt.hugefile) {
		fd = open(opt.hugefile, O_RDWR);
		if (fd < 0)
			die(opt.hugefile);
		flags = MAP_SHARED;
		off = nr * ((len + (2UL << 20) - 1) & ~((2UL << 20) - 1));
		len = (len + (2UL << 20) - 1) & ~((2UL << 20) - 1);
	}
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, off);
	if (p == MAP_FAILED)
		die("buffers");
	memset(p, nr + 1, opt.bs * opt.depth);
	return p;
}

static void run_job(int nr)
{
	static struct iocb iocbs[MAX_DEPTH];
	static struct io_event events[MAX_DEPTH];
	uint64_t seed = 88172645463325252ULL + nr * 7919;
	uint64_t blocks = opt.span / opt.bs;
	struct job *j = &sh->jobs[nr];
	aio_context_t ctx = 0;
	int fd, i, n, flying = 0;
	char *buf;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(opt.dev, (opt.write ? O_RDWR : O_RDONLY) | O_DIRECT);
	if (fd < 0)
		die(opt.dev);
	buf = buffers(nr);
	if (syscall(SYS_io_setup, opt.depth, &ctx))
		die("io_setup");

	for (i = 0; i < opt.depth; i++) {
		iocbs[i].aio_fildes = fd;
		iocbs[i].aio_lio_opcode = opt.write ? IOCB_CMD_PWRITE :
						      IOCB_CMD_PREAD;
		iocbs[i].aio_buf = (uintptr_t)(buf + i * opt.bs);
		iocbs[i].aio_nbytes = opt.bs;
		iocbs[i].aio_data = i;
		events[i].data = i;
	}
	n = opt.depth;
	for (;;) {
		/* One at a time, as fio does by default. */
		for (i = 0; i < n && !load(sh->stop); i++) {
			struct iocb *io = &iocbs[events[i].data];

			io->aio_offset = next_random(&seed) % blocks * opt.bs;
			if (syscall(SYS_io_submit, ctx, 1, &io) != 1)
				die("io_submit");
			flying++;
		}
		if (!flying)
			break;
		n = syscall(SYS_io_getevents, ctx, 1, opt.depth, events, NULL);
		if (n < 0)
			die("io_getevents");
		for (i = 0; i < n; i++) {
			if (events[i].res == (int64_t)opt.bs)
				continue;
			errno = events[i].res < 0 ? -events[i].res : EIO;
			die(opt.dev);
		}
		flying -= n;
		store(j->done, j->done + n);
	}
	_exit(0);
}

/* --- the run ------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static uint64_t all_done(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < opt.jobs; i++)
		sum += load(sh->jobs[i].done);
	return sum;
}

static void check_jobs(void)
{
	int status;

	if (waitpid(-1, &status, WNOHANG) > 0) {
		fprintf(stderr, "load: a job ended before its time\n");
		exit(1);
	}
}

static void wait_until_under_way(void)
{
	int i;

	for (i = 0; i < opt.jobs; i++)
		while (!load(sh->jobs[i].done)) {
			check_jobs();
			usleep(1000);
		}
	usleep(opt.warm_ms * 1000);
}

static void measure(void)
{
	int64_t before[NR_COUNTERS], after[NR_COUNTERS];
	uint64_t t0, t1, n0, n1, c0, c1;
	size_t i;

	/* Its own page faults come first. */
	take(after);
	wait_until_under_way();

	/* Taking them takes time: they belong to the middle of it. */
	c0 = all_done();
	take(before);
	c0 += all_done();
	mark_begin();
	n0 = all_done();
	t0 = now_ns();
	/* What is very slow gets more time, for a count that is not 0 or 1. */
	for (i = 0; i < 10; i++) {
		usleep(opt.ms * 1000);
		check_jobs();
		if (all_done() - n0 >= opt.min_ios)
			break;
	}
	n1 = all_done();
	t1 = now_ns();
	mark_end();
	c1 = all_done();
	take(after);
	c1 += all_done();

	store(sh->stop, true);
	printf("%llu\t%llu\t%.1f", (unsigned long long)(t1 - t0),
	       (unsigned long long)(n1 - n0), (c1 - c0) / 2.0);
	for (i = 0; i < NR_COUNTERS; i++) {
		if (before[i] < 0 || after[i] < 0)
			printf("\t-");
		else
			printf("\t%lld", (long long)(after[i] - before[i]));
	}
	printf("\n");
	fflush(stdout);
}

static void columns(void)
{
	size_t i;

	printf("ns\tios\tcounted_ios");
	for (i = 0; i < NR_COUNTERS; i++)
		printf("\t%s", counters[i].column);
	printf("\n");
}

static void usage(void)
{
	fprintf(stderr,
"load -f DEVICE [-w] [-b BYTES] [-q DEPTH] [-j JOBS] [-t MS] [-W WARM-UP-MS]\n"
"     [-s BYTES]   of the device to use (all of it)\n"
"     [-m FILE]    on hugetlbfs to take the buffers from\n"
"     [-a DIR]     statistics/tcmu/ of a device, for its counters\n"
"load -c           prints the names of the columns that it prints\n");
	exit(2);
}

int main(int argc, char **argv)
{
	int c, i, fd, status, failed = 0;

	while ((c = getopt(argc, argv, "f:wb:q:j:t:W:s:m:a:c")) != -1) {
		switch (c) {
		case 'f':
			opt.dev = optarg;
			break;
		case 'w':
			opt.write = true;
			break;
		case 'b':
			opt.bs = atol(optarg);
			break;
		case 'q':
			opt.depth = atoi(optarg);
			break;
		case 'j':
			opt.jobs = atoi(optarg);
			break;
		case 't':
			opt.ms = atoi(optarg);
			break;
		case 'W':
			opt.warm_ms = atoi(optarg);
			break;
		case 's':
			opt.span = atoll(optarg);
			break;
		case 'm':
			opt.hugefile = optarg;
			break;
		case 'a':
			opt.statistics = optarg;
			break;
		case 'c':
			columns();
			return 0;
		default:
			usage();
		}
	}
	if (!opt.dev || opt.depth < 1 || opt.depth > MAX_DEPTH ||
	    opt.jobs < 1 || opt.jobs > MAX_JOBS || opt.bs < 512)
		usage();
	if (!opt.span) {
		fd = open(opt.dev, O_RDONLY);
		if (fd < 0 || ioctl(fd, BLKGETSIZE64, &opt.span))
			die(opt.dev);
		close(fd);
	}
	if (opt.span < opt.bs)
		usage();

	/* Nobody waits for a device that doesn't answer. */
	alarm(120);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		die("shared memory");
	for (i = 0; i < opt.jobs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (!pid)
			run_job(i);
	}
	measure();
	while (wait(&status) > 0)
		failed |= status;
	return failed ? 1 : 0;
}
