// SPDX-License-Identifier: GPL-2.0
/*
 * inplace_room: Without room for data in place commands are copied, in order,
 * and none waits for ever.
 */
#define FIX_OPTS	TZC_OPTS_IN_PLACE
#include "iscsi_test.h"

static bool one_missed(void *arg)
{
	return zc_count(arg).inplace_missed;
}

/* Commands that find no room are copied, and none waits. */
TEST_F_TIMEOUT(iscsi, area_is_short, 60)
{
	struct iscsi_context *other = session_up(IQN ":b", 2);
	struct req req[HALF / MB + 1];
	struct zc *z = &self->z;
	struct tzc_counters c;
	size_t n;

	ASSERT_NE(NULL, other);
	zc_count(z);
	for (n = 0; n < ARRAY_SIZE(req); n++)
		ASSERT_EQ(0, start(self->i, &req[n], TZC_WRITE, self->buf, MB,
				   T_OFF + n * MB));
	/* The target has its own pace. */
	ASSERT_EQ(0, tzc_wait_for(one_missed, z, SOON));
	fill(self->buf + 3 * MB, 64 * KB, 5);
	EXPECT_EQ(0, xfer(other, TZC_WRITE, self->buf + 3 * MB, 64 * KB,
			  16 * MB));
	EXPECT_TRUE(is_filled(z->tgt.mem + 16 * MB, 64 * KB, 5));
	c = zc_count(z);
	EXPECT_EQ(1, c.inplace_missed);
	EXPECT_EQ(1, c.mapped_cmds + c.copied_cmds);
	for (n = 0; n < ARRAY_SIZE(req); n++)
		EXPECT_EQ(0, finish(self->i, &req[n]));
	EXPECT_EQ(0, wait_all_free(self->i, z));
	session_down(other);
}

struct waiting {
	struct zc *z;
	struct iscsi_context *other;
	struct req req;
	char *buf;
	bool started;
};

/* Small commands get blocks until there is one that waits for some. */
static bool somebody_waits(void *arg)
{
	struct waiting *w = arg;
	struct pollfd pfd = { .fd = iscsi_get_fd(w->other) };

	if (!w->started || w->req.done) {
		if (w->started)
			scsi_free_scsi_task(w->req.task);
		w->started = true;
		if (start(w->other, &w->req, TZC_WRITE, w->buf, TZC_SECTOR,
			  T_OFF + 8 * MB))
			return false;
	}
	pfd.events = iscsi_which_events(w->other);
	poll(&pfd, 1, 10);
	iscsi_service(w->other, pfd.revents);
	return zc_count(w->z).inplace_missed;
}

/* Others wait for the blocks that a fabric gives back. */
TEST_F_TIMEOUT(iscsi, blocks_that_others_wait_for, 60)
{
	static const size_t held = 1536 * KB, needed = 3 * MB;
	struct zc *z = &self->z;
	struct iscsi_context *i;
	struct req read, write;
	struct waiting w = { .z = z, .buf = self->buf };
	int fd;

	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	i = session_up(IQN ":b", 2);
	w.other = session_up(IQN ":c", 3);
	ASSERT_NE(NULL, i);
	ASSERT_NE(NULL, w.other);

	/* The handler is done with it when data arrives, the target isn't. */
	ASSERT_EQ(0, start(i, &read, TZC_READ, NULL, held, T_OFF));
	fd = iscsi_get_fd(i);
	ASSERT_EQ(0, tzc_wait_for(data_in_queue, &fd, SOON));

	zc_count(z);
	fill(self->buf, needed, 1);
	ASSERT_EQ(0, start(self->i, &write, TZC_WRITE, self->buf, needed, T_OFF));
	ASSERT_EQ(0, service(self->i, POLLIN | POLLOUT, somebody_waits, &w));
	EXPECT_FALSE(write.done);

	session_reset(i);
	EXPECT_EQ(0, finish(self->i, &write));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, needed, 1));
	EXPECT_EQ(0, finish(w.other, &w.req));
	scsi_free_scsi_task(write.task);
	scsi_free_scsi_task(w.req.task);
	session_down(w.other);
}

TZC_MAIN(TZC_NEED_ISCSI | TZC_NEED_IN_PLACE)
