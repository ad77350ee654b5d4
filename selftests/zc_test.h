/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests share: a device with a disk, initiator I/O, probes. */
#ifndef __ZC_TEST_H
#define __ZC_TEST_H

#include "libtcmuzc.h"
#include <fcntl.h>
#include <scsi/sg.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include "kselftest_harness.h"

#define PG		tzc_page_size()
#define KB		1024UL
#define MB		(1UL << 20)
/* Long enough for a slow emulator, shorter than the harness's patience. */
#define SOON		10000
/* Where tests do their I/O: see tzc_srv_wait_io(). */
#define T_OFF		(1 * MB)

/* --- patterns ------------------------------------------------------ */

static inline __maybe_unused void fill(void *buf, size_t len, uint64_t seed)
{
	uint64_t *p = buf;
	size_t i;

	for (i = 0; i < len / 8; i++)
		p[i] = (seed << 32 | (i + 1)) * 0x9e3779b97f4a7c15ULL;
}

static inline __maybe_unused bool is_filled(const void *buf, size_t len,
					    uint64_t seed)
{
	const uint64_t *p = buf;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (p[i] != (seed << 32 | (i + 1)) * 0x9e3779b97f4a7c15ULL)
			return false;
	return true;
}

static inline __maybe_unused bool is_all(const void *buf, size_t len, char c)
{
	const char *p = buf;

	return !len || (p[0] == c && !memcmp(p, p + 1, len - 1));
}

/* --- accesses that may be refused ---------------------------------- */

static __thread sigjmp_buf probe_env;
static __thread volatile int probing;

static void probe_handler(int sig, siginfo_t *info, void *context)
{
	if (!probing) {
		dprintf(STDERR_FILENO, "# signal %d, at address %p\n", sig,
			info->si_addr);
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	siglongjmp(probe_env, sig);
}

static inline void probe_init(void)
{
	struct sigaction sa = {
		.sa_sigaction = probe_handler,
		.sa_flags = SA_SIGINFO,
	};

	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
}

/* 0, or the signal that the access got. */
static __maybe_unused int probe_read(const volatile void *addr)
{
	int sig = sigsetjmp(probe_env, 1);

	if (!sig) {
		probing = 1;
		(void)*(const volatile char *)addr;
	}
	probing = 0;
	return sig;
}

static __maybe_unused int probe_write(volatile void *addr, char c)
{
	int sig = sigsetjmp(probe_env, 1);

	if (!sig) {
		probing = 1;
		*(volatile char *)addr = c;
	}
	probing = 0;
	return sig;
}

/* --- initiator I/O ------------------------------------------------- */

/* One request, in a thread of its own so that the test can hold it. */
struct zc_io {
	pthread_t thr;
	int fd;
	enum tzc_dir dir;
	bool sg;		/* SG_IO: exactly one command, no retries */
	int sg_timeout;		/* ms; 0: a minute */
	void *buf;
	size_t len;
	off_t off;
	ssize_t ret;		/* bytes, or -errno */
	bool started;
};

/* Any command: 0, or -EIO if it had a bad status; *resid may be NULL. */
static __maybe_unused int sg_cmd(int fd, unsigned char *cdb, size_t cdb_len,
				 enum tzc_dir dir, void *buf, size_t len,
				 int timeout_ms, int *resid)
{
	unsigned char sense[32];
	struct sg_io_hdr h = {
		.interface_id = 'S',
		.dxfer_direction = dir == TZC_READ ? SG_DXFER_FROM_DEV :
						     SG_DXFER_TO_DEV,
		.cmd_len = cdb_len,
		.cmdp = cdb,
		.dxferp = buf,
		.dxfer_len = len,
		.sbp = sense,
		.mx_sb_len = sizeof(sense),
		.timeout = timeout_ms,
	};

	if (ioctl(fd, SG_IO, &h))
		return -errno;
	if (resid)
		*resid = h.resid;
	return (h.info & SG_INFO_OK_MASK) == SG_INFO_OK ? 0 : -EIO;
}

static __maybe_unused ssize_t sg_rw_ms(int fd, enum tzc_dir dir, void *buf,
				       size_t len, off_t off, int timeout_ms)
{
	uint32_t lba = off / TZC_SECTOR, nr = len / TZC_SECTOR;
	unsigned char cdb[10] = {
		dir == TZC_READ ? 0x28 : 0x2a, 0, lba >> 24, lba >> 16,
		lba >> 8, lba, 0, nr >> 8, nr, 0,
	};
	int resid = 0, ret;

	ret = sg_cmd(fd, cdb, sizeof(cdb), dir, buf, len, timeout_ms, &resid);
	return ret ?: (ssize_t)(len - resid);
}

static inline ssize_t sg_rw(int fd, enum tzc_dir dir, void *buf, size_t len,
			    off_t off)
{
	return sg_rw_ms(fd, dir, buf, len, off, 60000);
}

static __maybe_unused ssize_t do_rw(int fd, enum tzc_dir dir, void *buf,
				    size_t len, off_t off)
{
	ssize_t ret = dir == TZC_READ ? pread(fd, buf, len, off) :
					pwrite(fd, buf, len, off);

	return ret < 0 ? -errno : ret;
}

static void *zc_io_thread(void *arg)
{
	struct zc_io *io = arg;

	if (io->sg)
		io->ret = sg_rw_ms(io->fd, io->dir, io->buf, io->len, io->off,
				   io->sg_timeout ?: 60000);
	else
		io->ret = do_rw(io->fd, io->dir, io->buf, io->len, io->off);
	return NULL;
}

static inline int zc_io_start(struct zc_io *io)
{
	int ret = pthread_create(&io->thr, NULL, zc_io_thread, io);

	io->started = !ret;
	return -ret;
}

/* The result of the I/O, or -ETIMEDOUT if it isn't finished soon. */
static __maybe_unused ssize_t zc_io_wait_ms(struct zc_io *io, int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += ms % 1000 * 1000000L;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	if (pthread_timedjoin_np(io->thr, NULL, &ts))
		return -ETIMEDOUT;
	io->started = false;
	return io->ret;
}

#define zc_io_wait(io)	zc_io_wait_ms(io, SOON)

/* --- memory of every kind ------------------------------------------ */

enum mem_kind { MEM_ANON, MEM_THP, MEM_HUGETLB, MEM_SHMEM };

static __maybe_unused size_t huge_page_size(void)
{
	char line[128];
	size_t kb = 2048;
	FILE *f = fopen("/proc/meminfo", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Hugepagesize: %zu kB", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb * KB;
}

#define HUGE	huge_page_size()

static __maybe_unused void *mem_get(enum mem_kind kind, size_t len)
{
	char *p;
	int fd;

	switch (kind) {
	case MEM_ANON:
		p = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return NULL;
		madvise(p, len, MADV_NOHUGEPAGE);
		return p;
	case MEM_THP:
		len = (len + HUGE - 1) & ~(HUGE - 1);
		p = mmap(NULL, len + HUGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return NULL;
		p = (void *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
		return madvise(p, len, MADV_HUGEPAGE) ? NULL : p;
	case MEM_HUGETLB:
		len = (len + HUGE - 1) & ~(HUGE - 1);
		if (tzc_write_file("/proc/sys/vm/nr_hugepages", "%d", 8))
			return NULL;
		p = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		return p == MAP_FAILED ? NULL : p;
	case MEM_SHMEM:
		fd = memfd_create("zc", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, len))
			return NULL;
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
		return p == MAP_FAILED ? NULL : p;
	}
	return NULL;
}

/* --- the device ---------------------------------------------------- */

/* Left-overs of a test that crashed have this prefix as well. */
#define T_PREFIX	"zct-"

struct zc {
	struct tzc_dev dev;
	struct tzc_tgt tgt;
	struct tzc_srv srv;
	struct tzc_counters last;
	int fd;			/* the disk, O_DIRECT */
	bool up;
};

static __maybe_unused int zc_open_disk(struct zc *z, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", z->dev.sd);
	return open(path, flags | O_CLOEXEC);
}

/* The directory only; the rest is for zc_start(). */
static __maybe_unused int zc_mkdev(struct zc *z)
{
	char name[32];

	probe_init();
	memset(z, 0, sizeof(*z));
	z->fd = -1;
	z->srv.ring.fd = -1;
	tzc_cleanup(T_PREFIX);
	snprintf(name, sizeof(name), T_PREFIX "%d", getpid());
	return tzc_mkdev(&z->dev, name);
}

/* Of a configured device. */
static __maybe_unused int zc_start(struct zc *z, const char *target,
				   int nworkers)
{
	int ret;

	ret = tzc_enable(&z->dev);
	if (ret)
		return ret;
	z->up = true;
	ret = tzc_tgt_open(&z->tgt, target, &z->dev);
	if (!ret)
		ret = tzc_srv_open(&z->srv, &z->dev, &z->tgt);
	if (ret)
		return ret;
	z->srv.nworkers = nworkers;
	ret = tzc_srv_start(&z->srv);
	if (!ret)
		ret = tzc_export(&z->dev);
	if (ret)
		return ret;
	z->fd = zc_open_disk(z, O_RDWR | O_DIRECT);
	if (z->fd < 0)
		return -errno;
	tzc_counters(&z->dev, &z->last);
	return 0;
}

/* A ram disk that is served, and its path's counters at zero. */
static __maybe_unused int zc_up_workers(struct zc *z, const struct tzc_opts *o,
					const char *target, int nworkers)
{
	int ret;

	ret = zc_mkdev(z);
	if (!ret)
		ret = tzc_configure(&z->dev, o);
	return ret ?: zc_start(z, target, nworkers);
}

static __maybe_unused int zc_up(struct zc *z, const struct tzc_opts *o)
{
	return zc_up_workers(z, o, "ram", 0);
}

/* The counters since the last call. */
static __maybe_unused struct tzc_counters zc_count(struct zc *z)
{
	struct tzc_counters now, diff;

	tzc_counters(&z->dev, &now);
	diff = now;
	tzc_counters_sub(&diff, &z->last);
	z->last = now;
	return diff;
}

static __maybe_unused int zc_down(struct zc *z)
{
	if (z->fd >= 0)
		close(z->fd);
	z->fd = -1;
	/* Whatever a test holds must come to an end first. */
	if (!z->dev.served && z->dev.uio[0])
		tzc_action(&z->dev, "reset_ring", 2);
	if (!z->dev.served && z->srv.ring.fd >= 0) {
		tzc_ring_resync(&z->srv.ring);
		tzc_srv_start(&z->srv);
	}
	if (tzc_unexport(&z->dev))
		return -EBUSY;
	tzc_srv_close(&z->srv);
	if (z->up)
		tzc_tgt_close(&z->tgt);
	return tzc_destroy(&z->dev);
}

/* Finish a held command. */
static __maybe_unused void zc_done(struct zc *z, struct tzc_cmd *cmd)
{
	tzc_complete(&z->srv.ring, cmd);
	tzc_notify(&z->srv.ring);
}

/* Finish it, and keep its buffer until free_kept_buf. */
static __maybe_unused void zc_keep(struct zc *z, struct tzc_cmd *cmd)
{
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_done(z, cmd);
}

/* Execute and finish it. */
static __maybe_unused void zc_serve(struct zc *z, struct tzc_cmd *cmd)
{
	tzc_scsi(&z->tgt, cmd);
	zc_done(z, cmd);
}

static __maybe_unused struct tzc_cmd *zc_wait(struct zc *z)
{
	return tzc_srv_wait_io(&z->srv, SOON);
}

/* Offset of a pointer into the handler's mapping. */
static inline __maybe_unused size_t zc_map_off(struct zc *z, const void *p)
{
	return (const char *)p - z->srv.ring.map;
}

static inline __maybe_unused char *zc_range(struct zc *z)
{
	return z->srv.ring.map + z->srv.ring.size - TZC_RANGE_BYTES;
}

/*
 * Start one I/O and catch its command. O_DIRECT, so that one request is one
 * command; SG_IO makes no retries, so a failure is seen as it is.
 */
#define CATCH_IO(_io, _sg, _dir, _buf, _len, _off) ({			\
	struct tzc_cmd *_c;						\
	*(_io) = (struct zc_io){ .fd = self->z.fd, .dir = (_dir),	\
		.sg = (_sg), .buf = (_buf), .len = (_len), .off = (_off) }; \
	ASSERT_EQ(0, zc_io_start(_io));					\
	_c = zc_wait(&self->z);						\
	ASSERT_NE(NULL, _c);						\
	_c;								\
})

/* The same, and it must be mapped. */
#define HOLD_IO(_io, _sg, _dir, _buf, _len, _off) ({			\
	struct tzc_cmd *_h = CATCH_IO(_io, _sg, _dir, _buf, _len, _off); \
	ASSERT_TRUE(tzc_is_mapped(_h)) {				\
		TH_LOG("command was copied, not mapped");		\
	}								\
	ASSERT_EQ(1, _h->iov_cnt);					\
	ASSERT_EQ((_len), _h->iov[0].iov_len);				\
	_h;								\
})

#define HOLD(_io, _dir, _buf, _len, _off)				\
	HOLD_IO(_io, false, _dir, _buf, _len, _off)
#define HOLD_SG(_io, _dir, _buf, _len, _off)				\
	HOLD_IO(_io, true, _dir, _buf, _len, _off)

/* Skip the whole program with the reason, and the status that says so. */
#define TZC_MAIN(_needs)						\
int main(int argc, char **argv)						\
{									\
	const char *missing = tzc_missing(_needs);			\
									\
	if (missing) {							\
		printf("TAP version 13\n1..0 # SKIP %s\n", missing);	\
		return KSFT_SKIP;					\
	}								\
	return test_harness_run(argc, argv);				\
}

/* A plain fixture: 64 MiB, threshold one page, served by a thread. */
#define ZC_FIXTURE(_name, _opts)					\
FIXTURE(_name) {							\
	struct zc z;							\
};									\
FIXTURE_SETUP(_name)							\
{									\
	const struct tzc_opts o = _opts;				\
									\
	ASSERT_EQ(0, zc_up(&self->z, &o));				\
}									\
FIXTURE_TEARDOWN(_name)							\
{									\
	EXPECT_EQ(0, zc_down(&self->z));				\
}

/* Variants of a fixture: the device maps commands, or is that of any kernel. */
#define MAPPED_AND_COPIED(_fixture)					\
	FIXTURE_VARIANT(_fixture) { int zero_copy; };			\
	FIXTURE_VARIANT_ADD(_fixture, mapped) { .zero_copy = 1 };	\
	FIXTURE_VARIANT_ADD(_fixture, copied) { .zero_copy = 0 }

/* For the setup of such a fixture */
#define VARIANT_UP(_z) do {						\
	struct tzc_opts _o = TZC_OPTS_STOCK;				\
	if (variant->zero_copy && !tzc_kernel_has("zero_copy"))		\
		SKIP(return, "this kernel's tcmu has no zero_copy");	\
	if (variant->zero_copy)						\
		_o = (struct tzc_opts)TZC_OPTS_DEFAULT;			\
	ASSERT_EQ(0, zc_up(_z, &_o));					\
} while (0)

#endif
