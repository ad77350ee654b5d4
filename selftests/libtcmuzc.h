/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __LIBTCMUZC_H
#define __LIBTCMUZC_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/uio.h>
/* <linux/uio.h> defines struct iovec a second time. */
#define __LINUX_UIO_H
#include <linux/types.h>
#include <linux/target_core_user.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* For system headers older than the kernel under test. */
#ifndef TCMU_MAILBOX_FLAG_CAP_ZERO_COPY
#define TCMU_MAILBOX_FLAG_CAP_ZERO_COPY	(1 << 4)
#endif
#ifndef TCMU_KFLAG_ZERO_COPY
#define TCMU_KFLAG_ZERO_COPY		0x1
#endif

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif

#define TZC_RING_BYTES		(8UL << 20)
#define TZC_RANGE_BYTES		(1UL << 30)
#define TZC_SECTOR		512
#define TZC_MB			(1UL << 20)

/* Everything returns 0 (or a count) or a negative errno, unless said here. */

/* --- configuration ------------------------------------------------- */

struct tzc_opts {
	uint64_t size;
	int zero_copy;		/* -1: not mentioned in control */
	int in_place;		/* -1: not mentioned in control */
	long min_bytes;		/* -1: not mentioned in control */
	int area_mb;
	int ring_mb;		/* 0: the kernel's default */
	int blk_pages;		/* pages of a data block; 0: the same */
	int max_sectors;
	int time_out;		/* -1: the kernel's default */
};

/* Everything that a page fills is mapped. */
#define TZC_OPTS_DEFAULT { .size = 64 * TZC_MB, .zero_copy = 1,		\
	.in_place = -1, .min_bytes = tzc_page_size(), .area_mb = 16,	\
	.max_sectors = 8192, .time_out = -1 }
/* A network fabric's data is in the data area, and nothing is mapped. */
#define TZC_OPTS_IN_PLACE { .size = 64 * TZC_MB, .zero_copy = -1,	\
	.in_place = 1, .min_bytes = -1, .area_mb = 16,			\
	.max_sectors = 8192, .time_out = -1 }
/* Any kernel with tcmu takes these. */
#define TZC_OPTS_STOCK { .size = 64 * TZC_MB, .zero_copy = -1,		\
	.in_place = -1, .min_bytes = -1, .area_mb = 16,			\
	.max_sectors = 8192, .time_out = -1 }

struct tzc_dev {
	char name[40];
	char dir[128];		/* configfs directory of the backstore */
	char wwn[48];
	char uio[32];		/* "uio3" */
	char sd[32];		/* "sdb", empty before tzc_export() */
	size_t map_size;
	bool served;		/* between tzc_srv_start() and tzc_srv_stop() */
	struct tzc_opts opts;
};

struct tzc_counters {
	uint64_t inplace_cmds, inplace_bytes, inplace_missed, inplace_dropped;
	uint64_t mapped_cmds, mapped_bytes, kept_cmds;
	uint64_t copied_cmds, copied_bytes, missed_bytes;
	uint64_t small, cdb, layout, page, space;
	uint64_t faults, ahead, pages, unmaps, cleared_pages;
};

int tzc_write_file(const char *path, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int tzc_read_file(const char *path, char *buf, size_t len);
bool tzc_kernel_has(const char *attr);

/* What a program needs besides root and tcmu. */
enum { TZC_NEED_ISCSI = 1, TZC_NEED_IN_PLACE = 2, TZC_NEED_MAPPED = 4 };
/*
 * Load what isn't there yet. NULL if nothing is missing, else one line that
 * says what is.
 */
const char *tzc_missing(unsigned int needs);
static inline size_t tzc_page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* Make the backstore directory only: not configured, not enabled. */
int tzc_mkdev(struct tzc_dev *d, const char *name);
int tzc_configure(struct tzc_dev *d, const struct tzc_opts *o);
int tzc_enable(struct tzc_dev *d);
/*
 * For tzc_wait_for(): whether the uio device of a struct tzc_dev, which then
 * has its name and the size of its map, and its node are there.
 */
bool tzc_have_uio_node(void *dev);
/* All of the above, and the uio node is there. */
int tzc_create(struct tzc_dev *d, const char *name, const struct tzc_opts *o);
/*
 * Give the device a loopback LUN and wait for its disk. The SCSI scan sends
 * commands, so somebody must be serving the ring.
 */
int tzc_export(struct tzc_dev *d);
/* The path of a file of the LUN's target portal group, "" for itself */
void tzc_tpg_path(struct tzc_dev *d, char *buf, size_t len, const char *file);
/* Only the LUN: whatever the scan has found. */
int tzc_add_lun(struct tzc_dev *d);
int tzc_unexport(struct tzc_dev *d);
/* Works with commands in flight and without a handler. */
int tzc_destroy(struct tzc_dev *d);
/* Remove every device whose name starts with prefix: what a crash left. */
int tzc_cleanup(const char *prefix);

int tzc_control(struct tzc_dev *d, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int tzc_attr_get(struct tzc_dev *d, const char *attr, long long *val);
int tzc_attr_set(struct tzc_dev *d, const char *attr, const char *val);
int tzc_action(struct tzc_dev *d, const char *action, int val);
/* A kernel without some of the counters has them at zero. */
int tzc_counters(struct tzc_dev *d, struct tzc_counters *c);
int tzc_counter_set(struct tzc_dev *d, const char *name, const char *val);
void tzc_counters_sub(struct tzc_counters *c, const struct tzc_counters *old);
void tzc_counters_print(FILE *f, const struct tzc_counters *c);

/* Poll cond() every few ms until it is true: 0, or -ETIMEDOUT. */
int tzc_wait_for(bool (*cond)(void *arg), void *arg, int timeout_ms);
uint64_t tzc_now_ms(void);

/* --- ring ---------------------------------------------------------- */

enum tzc_dir { TZC_NONE, TZC_READ, TZC_WRITE };

struct tzc_cmd {
	struct tzc_cmd *next;
	uint16_t id;
	uint8_t kflags;
	uint8_t uflags;		/* sent with the completion */
	uint8_t status;
	uint8_t cdb[16];
	uint8_t sense[TCMU_SENSE_BUFFERSIZE];
	enum tzc_dir dir;	/* of READ/WRITE commands, TZC_NONE for others */
	uint64_t off;
	size_t len;
	struct tcmu_cmd_entry *ent;
	int iov_cnt, bidi_cnt;
	struct iovec iov[];	/* copied out of the ring, as pointers */
};

struct tzc_ring {
	int fd;
	char *map;
	size_t size;
	struct tcmu_mailbox *mb;
	uint32_t next;		/* first entry not yet read */
	uint32_t tail;		/* first entry not yet completed */
	bool stock;		/* pretend not to know any zero-copy flag */
	pthread_mutex_t lock;
};

int tzc_ring_open(struct tzc_ring *r, struct tzc_dev *d);
void tzc_ring_close(struct tzc_ring *r);
/* Start again from cmd_tail: after a restart or reset_ring. */
void tzc_ring_resync(struct tzc_ring *r);
/* The next command, NULL if there is none. Free it with free(). */
struct tzc_cmd *tzc_next(struct tzc_ring *r);
/* Put the answer into the ring; out of order is fine. Frees the command. */
void tzc_complete(struct tzc_ring *r, struct tzc_cmd *cmd);
/* Tell the kernel about completions. */
int tzc_notify(struct tzc_ring *r);
struct tcmu_cmd_entry *tzc_entry(struct tzc_ring *r, uint32_t pos);

static inline bool tzc_is_mapped(const struct tzc_cmd *cmd)
{
	return cmd->kflags & TCMU_KFLAG_ZERO_COPY;
}

/* --- targets and SCSI ---------------------------------------------- */

struct tzc_tgt;

struct tgt_ops {
	const char *name;
	int (*open)(struct tzc_tgt *t, const char *arg);
	void (*close)(struct tzc_tgt *t);
	int (*rw)(struct tzc_tgt *t, enum tzc_dir dir, const struct iovec *iov,
		  int cnt, uint64_t off, size_t len);
	int (*flush)(struct tzc_tgt *t);
};

struct tzc_tgt {
	const struct tgt_ops *ops;
	char name[40];
	uint64_t size;
	unsigned int max_sectors;
	char *mem;		/* ram */
	int fd;			/* file */
};

extern const struct tgt_ops tgt_null_ops, tgt_touch_ops, tgt_ram_ops, tgt_file_ops;

/* spec: null, touch (a byte of each page), ram or file:PATH */
int tzc_tgt_open(struct tzc_tgt *t, const char *spec, struct tzc_dev *d);
void tzc_tgt_close(struct tzc_tgt *t);
/* Execute cmd: fills in status and sense. */
void tzc_scsi(struct tzc_tgt *t, struct tzc_cmd *cmd);
void tzc_scsi_decode(struct tzc_cmd *cmd);

/* --- server: a thread that serves the ring ------------------------- */

struct tzc_srv {
	struct tzc_dev *dev;
	struct tzc_tgt *tgt;
	struct tzc_ring ring;
	int stop_fd;
	pthread_t thr;
	int nworkers;		/* 0: the ring's thread does the work itself */
	pthread_t workers[16];
	pthread_mutex_t qlock;
	pthread_cond_t qcond;
	struct tzc_cmd *qhead, *qtail;
	bool qstop;
};

/* Open the ring; tzc_srv_start() then serves it in the background. */
int tzc_srv_open(struct tzc_srv *s, struct tzc_dev *d, struct tzc_tgt *t);
int tzc_srv_start(struct tzc_srv *s);
/* Stop serving, with no command half done; the ring stays open. */
void tzc_srv_stop(struct tzc_srv *s);
void tzc_srv_close(struct tzc_srv *s);
/*
 * By hand, while stopped: the next READ or WRITE of at least 1 MiB into the
 * disk, where tests do their I/O. All other commands are served on the way.
 * NULL after timeout_ms.
 */
struct tzc_cmd *tzc_srv_wait_io(struct tzc_srv *s, int timeout_ms);

#endif
