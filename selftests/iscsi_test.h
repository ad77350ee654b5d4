/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fixture of the tests over iSCSI: a tcmu device, its target, a session.
 * Define FIX_OPTS, which says what device, before including this.
 */
#ifndef __TCMU_ISCSI_TEST_H
#define __TCMU_ISCSI_TEST_H

#include "zc_test.h"
#include "iscsi.h"
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define IQN	ISCSI_IQN
#define LUN	ISCSI_LUN
#define RMEM	"/proc/sys/net/ipv4/tcp_rmem"

/* The whole of what fabrics may have: half of the data area. */
#define AREA_MB	4
#define HALF	(AREA_MB * MB / 2)

FIXTURE(iscsi) {
	struct zc z;
	struct iscsi_context *i;
	char *buf, rmem[64];
};

FIXTURE_SETUP(iscsi)
{
	struct tzc_opts o = FIX_OPTS;

	o.area_mb = AREA_MB;
	o.time_out = 0;
	signal(SIGPIPE, SIG_IGN);
	iscsi_target_down();
	tzc_read_file(RMEM, self->rmem, sizeof(self->rmem));
	ASSERT_EQ(0, zc_up(&self->z, &o));
	ASSERT_EQ(0, iscsi_target_up(&self->z.dev));
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	self->buf = mem_get(MEM_ANON, 4 * MB);
	ASSERT_NE(NULL, self->buf);
	zc_count(&self->z);
}

FIXTURE_TEARDOWN(iscsi)
{
	struct zc *z = &self->z;

	if (self->rmem[0])
		tzc_write_file(RMEM, "%s", self->rmem);
	if (!z->dev.served && z->srv.ring.fd >= 0) {
		tzc_action(&z->dev, "reset_ring", 2);
		tzc_ring_resync(&z->srv.ring);
		tzc_srv_start(&z->srv);
	}
	if (self->i)
		session_reset(self->i);
	iscsi_target_down();
	EXPECT_EQ(0, zc_down(z));
}

/* Another device. */
static __maybe_unused void up_again(struct __test_metadata *_metadata,
				    FIXTURE_DATA(iscsi) *self,
				    const struct tzc_opts *o)
{
	session_reset(self->i);
	self->i = NULL;
	iscsi_target_down();
	ASSERT_EQ(0, zc_down(&self->z));
	ASSERT_EQ(0, zc_up(&self->z, o));
	ASSERT_EQ(0, iscsi_target_up(&self->z.dev));
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	zc_count(&self->z);
}

static __maybe_unused bool data_in_queue(void *arg)
{
	int n = 0;

	return !ioctl(*(int *)arg, FIONREAD, &n) && n > 8192;
}

/* Its data has to be sent while we wait for the command. */
struct feed {
	struct iscsi_context *i;
	struct zc *z;
	struct tzc_cmd *cmd;
};

static __maybe_unused bool fed(void *arg)
{
	struct feed *f = arg;

	f->cmd = tzc_srv_wait_io(&f->z->srv, 10);
	return f->cmd;
}

/* Start a command by hand, and catch it at the handler. */
#define CATCH(_req, _dir, _buf, _len, _off) ({				\
	struct tzc_cmd *_c;						\
	ASSERT_EQ(0, start(self->i, _req, _dir, _buf, _len, _off));	\
	if ((_dir) == TZC_WRITE) {					\
		struct feed _f = { self->i, &self->z };			\
		ASSERT_EQ(0, service(self->i, POLLIN | POLLOUT, fed, &_f)); \
		_c = _f.cmd;						\
	} else {							\
		_c = zc_wait(&self->z);					\
	}								\
	ASSERT_NE(NULL, _c);						\
	ASSERT_FALSE(tzc_is_mapped(_c));				\
	_c;								\
})

/*
 * A session that has asked for data and doesn't read it: the handler is done
 * with the command, the target isn't.
 */
#define UNREAD(_req, _len) ({						\
	struct iscsi_context *_i;					\
	int _fd;							\
	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));		\
	_i = session_up(IQN ":b", 2);					\
	ASSERT_NE(NULL, _i);						\
	_fd = iscsi_get_fd(_i);						\
	ASSERT_EQ(0, start(_i, _req, TZC_READ, NULL, _len, T_OFF));	\
	ASSERT_EQ(0, tzc_wait_for(data_in_queue, &_fd, SOON));		\
	_i;								\
})

/* A debug kernel takes seconds for a session. */
static __maybe_unused int nr_resets(void)
{
	return access("/sys/kernel/debug/kmemleak", F_OK) ? 50 : 8;
}

/* All blocks are back if fabrics can get their whole half at once. */
static __maybe_unused bool all_free(void *arg)
{
	struct zc *z = ((struct feed *)arg)->z;
	struct iscsi_context *i = ((struct feed *)arg)->i;
	static char buf[MB];
	struct tzc_counters c;
	struct req req[HALF / MB];
	unsigned int n, taken;

	zc_count(z);
	for (n = 0; n < ARRAY_SIZE(req); n++)
		if (start(i, &req[n], TZC_WRITE, buf, MB, T_OFF + n * MB))
			return false;
	for (taken = n = 0; n < ARRAY_SIZE(req); n++) {
		if (finish(i, &req[n]))
			return false;
		scsi_free_scsi_task(req[n].task);
	}
	c = zc_count(z);
	taken = c.inplace_cmds;
	return taken == ARRAY_SIZE(req) && !c.inplace_missed;
}

static __maybe_unused int wait_all_free(struct iscsi_context *i, struct zc *z)
{
	struct feed f = { i, z };

	return tzc_wait_for(all_free, &f, SOON);
}

struct drops {
	struct zc *z;
	uint64_t nr, wanted;	/* pages */
};

static __maybe_unused bool all_dropped(void *arg)
{
	struct drops *d = arg;

	d->nr += zc_count(d->z).inplace_dropped;
	return d->nr >= d->wanted;
}

/* Use the whole half that fabrics may have for something else. */
static __maybe_unused int use_half(struct iscsi_context *i, char *buf)
{
	int n, ret = 0;

	memset(buf, 0x5a, MB);
	for (n = 0; n < 2 * AREA_MB && !ret; n++)
		ret = xfer(i, TZC_WRITE, buf, MB, T_OFF + (2 + n % 4) * MB);
	return ret;
}

/* Connections that break while the data of WRITEs is arriving */
static __maybe_unused void reset_data_out(struct __test_metadata *_metadata,
					  FIXTURE_DATA(iscsi) *self)
{
	struct iscsi_context *i;
	struct req req[2];
	int n;

	for (n = 0; n < nr_resets(); n++) {
		i = session_up(IQN ":b", 2);
		ASSERT_NE(NULL, i);
		ASSERT_EQ(0, start(i, &req[0], TZC_WRITE, self->buf, MB, T_OFF));
		/* Of this one, some data is sent. */
		ASSERT_EQ(0, start(i, &req[1], TZC_WRITE, self->buf, MB,
				   T_OFF + MB));
		if (n % 2)
			service(i, POLLIN, all_sent, i);
		session_reset(i);
	}
}

/* ... and while that of READs is being sent */
static __maybe_unused void reset_data_in(struct __test_metadata *_metadata,
					 FIXTURE_DATA(iscsi) *self)
{
	struct iscsi_context *i;
	struct req req[4];
	int n, k;

	/* What isn't read stays with the sender. */
	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	for (n = 0; n < nr_resets(); n++) {
		i = session_up(IQN ":b", 2);
		ASSERT_NE(NULL, i);
		for (k = 0; k < 4; k++)
			ASSERT_EQ(0, start(i, &req[k], TZC_READ, NULL, 256 * KB,
					   T_OFF + k * MB));
		session_reset(i);
	}
}

#endif
