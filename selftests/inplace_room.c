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
	struct tzc_cmd *cmd;

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
	cmd = tzc_srv_wait_io(&w->z->srv, 0);
	if (cmd)
		zc_serve(w->z, cmd);
	return zc_count(w->z).inplace_missed;
}

/*
 * A command waits for blocks until a fabric gives some back. It isn't refused,
 * as the handler could also make room, by completing a copied command.
 */
TEST_F_TIMEOUT(iscsi, blocks_that_others_wait_for, 60)
{
	static const size_t held = 1536 * KB, needed = 2 * MB;
	struct zc *z = &self->z;
	struct iscsi_context *i;
	struct req read, write, copied;
	struct waiting w = { .z = z, .buf = self->buf };
	struct tzc_cmd *cmd, *copied_cmd;

	i = UNREAD(&read, held);
	w.other = session_up(IQN ":c", 3);
	ASSERT_NE(NULL, w.other);

	tzc_srv_stop(&z->srv);
	fill(self->buf, needed, 1);
	copied_cmd = CATCH(&copied, TZC_WRITE, self->buf, held, T_OFF + 4 * MB);
	zc_count(z);
	ASSERT_EQ(0, start(self->i, &write, TZC_WRITE, self->buf, needed, T_OFF));
	ASSERT_EQ(0, tzc_wait_for(one_missed, z, SOON));
	ASSERT_EQ(0, service(self->i, POLLIN | POLLOUT, somebody_waits, &w));
	EXPECT_FALSE(write.done);

	session_reset(i);
	cmd = zc_wait(z);
	ASSERT_NE(NULL, cmd);
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &write));
	zc_serve(z, copied_cmd);
	EXPECT_EQ(0, finish(self->i, &copied));
	scsi_free_scsi_task(copied.task);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, needed, 1));
	EXPECT_EQ(0, finish(w.other, &w.req));
	scsi_free_scsi_task(write.task);
	scsi_free_scsi_task(w.req.task);
	session_down(w.other);
}

struct large {
	struct iscsi_context *i;
	char *buf;
	int status;
};

static bool large_done(void *arg)
{
	struct large *l = arg;

	l->status = xfer(l->i, TZC_WRITE, l->buf, 3 * MB, T_OFF);
	return l->status != SCSI_STATUS_TASK_SET_FULL;
}

/* A command for which only fabrics can make room is refused. Others don't wait. */
TEST_F_TIMEOUT(iscsi, too_large_for_what_is_left, 60)
{
	struct large l = { self->i, self->buf };
	struct iscsi_context *i;
	struct req read;

	i = UNREAD(&read, 1536 * KB);
	fill(self->buf, 3 * MB, 1);
	EXPECT_FALSE(large_done(&l));
	/* Too large to be in place, but there is room for a copy. */
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB + 512 * KB, T_OFF));

	session_reset(i);
	EXPECT_EQ(0, tzc_wait_for(large_done, &l, SOON));
	EXPECT_EQ(0, l.status);
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, 3 * MB, 1));
}

TZC_MAIN(TZC_NEED_ISCSI | TZC_NEED_IN_PLACE)
