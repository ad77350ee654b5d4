// SPDX-License-Identifier: GPL-2.0
/*
 * zc_detach: When a command ends early its pages are unmapped before it is
 * completed.
 */

/*
 * A command that ends while the handler still works on it: timeout, KEEP_BUF,
 * reset_ring, removal of the device. The pages go first, then the command is
 * completed; the handler gets SIGBUS, nobody gets the next owner's data.
 */
#include "zc_test.h"

#define LEN	(16 * PG)

FIXTURE(zc_detach) {
	struct zc z;
	char *buf;
	struct zc_io io, io2;
};

FIXTURE_SETUP(zc_detach)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, 4 * LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, 4 * LEN, 1);
}

FIXTURE_TEARDOWN(zc_detach)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* --- KEEP_BUF ------------------------------------------------------ */

TEST_F(zc_detach, keep_buf)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd, *next;
	struct zc_io io;
	uint16_t id;
	char *p;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	EXPECT_EQ(0, probe_read(p));
	tzc_scsi(&z->tgt, cmd);
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_done(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	/* The buffer was the initiator's, and is its own again. */
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));

	/* The id and its range stay taken until they are given back. */
	next = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	EXPECT_NE(id, next->id);
	EXPECT_NE(p, (char *)next->iov[0].iov_base);
	zc_serve(z, next);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(SIGBUS, probe_read(p));
}

TEST_F(zc_detach, keep_buf_of_read)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	uint16_t id;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	fill(p, LEN, 2);
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_done(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
}

/* Closing the device gives back what was kept. */
TEST_F(zc_detach, keep_buf_then_close)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	uint16_t id;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	id = cmd->id;
	tzc_scsi(&z->tgt, cmd);
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_done(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	tzc_srv_close(&z->srv);
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", id));
	ASSERT_EQ(0, tzc_srv_open(&z->srv, &z->dev, &z->tgt));
	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	EXPECT_EQ(0, probe_read(cmd->iov[0].iov_base));
	zc_serve(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
}

/* A copied command's buffer is still kept, on the same device. */
TEST_F(zc_detach, keep_buf_of_copied)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	uint16_t id;
	char *p;

	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_min_bytes", "1048576"));
	self->io = (struct zc_io){ .fd = z->fd, .dir = TZC_WRITE,
				   .buf = self->buf, .len = LEN, .off = T_OFF };
	ASSERT_EQ(0, zc_io_start(&self->io));
	cmd = zc_wait(z);
	ASSERT_NE(NULL, cmd);
	ASSERT_FALSE(tzc_is_mapped(cmd));
	ASSERT_EQ(1, cmd->iov_cnt);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_done(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
}

/* --- reset_ring ---------------------------------------------------- */

TEST_F(zc_detach, reset_ring_in_flight)
{
	struct zc *z = &self->z;
	struct tzc_cmd *w, *r;
	char *p, *q;

	w = HOLD_SG(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	r = HOLD_SG(&self->io2, TZC_READ, self->buf + LEN, LEN, T_OFF);
	p = w->iov[0].iov_base;
	q = r->iov[0].iov_base;
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(0, probe_write(q, 'X'));
	free(w);
	free(r);
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 2));
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	EXPECT_EQ(-EIO, zc_io_wait(&self->io2));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(q));
	EXPECT_EQ(SIGBUS, probe_write(q + PG, 'X'));

	tzc_ring_resync(&z->srv.ring);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	fill(self->buf, LEN, 5);
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 5));
}

/* Retryable: the initiator tries again and succeeds. */
TEST_F(zc_detach, reset_ring_busy)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_read(p));
	free(cmd);
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 1));
	tzc_ring_resync(&z->srv.ring);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
	EXPECT_EQ(SIGBUS, probe_read(p));
}

/* With a KEEP_BUF command and its range around. */
TEST_F(zc_detach, reset_ring_with_kept_buf)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	uint16_t id;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	id = cmd->id;
	EXPECT_EQ(0, probe_read(cmd->iov[0].iov_base));
	tzc_scsi(&z->tgt, cmd);
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_done(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 2));
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", id));
	tzc_ring_resync(&z->srv.ring);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
}

/* --- removal ------------------------------------------------------- */

TEST_F(zc_detach, device_removed)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD_SG(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_write(p, 'X'));
	free(cmd);
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 2));
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	close(z->fd);
	z->fd = -1;
	ASSERT_EQ(0, tzc_destroy(&z->dev));
	/* Open and mapped, still; the device has gone. */
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_write(zc_range(z), 'X'));
	probe_read(z->srv.ring.map);
	probe_read(z->srv.ring.map + TZC_RING_BYTES);
	tzc_srv_close(&z->srv);
	z->srv.ring.fd = -1;
}

/* --- timeout ------------------------------------------------------- */

FIXTURE(zc_timeout) {
	struct zc z;
	char *buf;
	struct zc_io io, io2;
};

FIXTURE_SETUP(zc_timeout)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.time_out = 3;
	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, 4 * LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, 4 * LEN, 1);
}

FIXTURE_TEARDOWN(zc_timeout)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

TEST_F(zc_timeout, pages_go_then_command_fails)
{
	struct zc *z = &self->z;
	struct tzc_cmd *w, *r, *next;
	char *p, *q;
	struct zc_io io;

	w = HOLD_SG(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	r = HOLD_SG(&self->io2, TZC_READ, self->buf + LEN, LEN, T_OFF + LEN);
	p = w->iov[0].iov_base;
	q = r->iov[0].iov_base;
	EXPECT_TRUE(is_filled(p, LEN, 1));
	memset(q, 'x', PG);
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	EXPECT_EQ(-EIO, zc_io_wait(&self->io2));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_write(q, 'X'));
	memset(self->buf + LEN, 'i', LEN);

	/* The ranges aren't anybody else's until the handler is done. */
	next = HOLD(&io, TZC_READ, self->buf + 2 * LEN, LEN, T_OFF);
	EXPECT_NE(p, (char *)next->iov[0].iov_base);
	EXPECT_NE(q, (char *)next->iov[0].iov_base);
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(q));
	zc_serve(z, next);
	EXPECT_EQ(LEN, zc_io_wait(&io));

	/* It is done, late. */
	zc_done(z, w);
	zc_done(z, r);
	EXPECT_TRUE(is_all(self->buf + LEN, LEN, 'i'));
	EXPECT_EQ(SIGBUS, probe_read(p));

	/* And everything works. */
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	fill(self->buf, LEN, 7);
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 7));
}

/* Aborted by the initiator's error handler, which waits for the expiry. */
TEST_F(zc_timeout, aborted_then_expired)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char *p;

	self->io = (struct zc_io){ .fd = z->fd, .dir = TZC_READ, .sg = true,
				   .sg_timeout = 500, .buf = self->buf,
				   .len = LEN, .off = T_OFF };
	ASSERT_EQ(0, zc_io_start(&self->io));
	cmd = zc_wait(z);
	ASSERT_NE(NULL, cmd);
	ASSERT_TRUE(tzc_is_mapped(cmd));
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_write(p, 'X'));
	/* Error handling may send commands of its own. */
	while (zc_io_wait_ms(&self->io, 10) == -ETIMEDOUT) {
		struct tzc_cmd *other = tzc_srv_wait_io(&z->srv, 10);

		if (other)
			zc_serve(z, other);
	}
	EXPECT_GT(0, self->io.ret);
	EXPECT_EQ(SIGBUS, probe_read(p));
	zc_done(z, cmd);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	fill(self->buf, LEN, 8);
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 8));
}

/* Expired with the device about to go: nothing is left over. */
TEST_F(zc_timeout, expired_then_removed)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD_SG(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	free(cmd);
	close(z->fd);
	z->fd = -1;
	/* Serve what the removal may send. */
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	ASSERT_EQ(0, tzc_destroy(&z->dev));
	EXPECT_EQ(SIGBUS, probe_read(p));
}

/* The handler completes it with KEEP_BUF, too late for anything. */
TEST_F(zc_timeout, expired_then_keep_buf)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	uint16_t id;
	char *p;

	cmd = HOLD_SG(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_done(z, cmd);
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", id));
}

TZC_MAIN(TZC_NEED_MAPPED)
