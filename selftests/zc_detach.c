// SPDX-License-Identifier: GPL-2.0
/*
 * zc_detach: When a command ends under its handler, a copy takes the place of
 * its pages.
 */

/*
 * A command that ends while the handler still works on it: timeout, KEEP_BUF,
 * reset_ring, removal of the device. The pages go first, then the command is
 * completed. After a timeout or KEEP_BUF the handler finds its data where it
 * was, after reset_ring it gets SIGBUS; nobody gets the next owner's data.
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
	zc_keep(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	/* The pages are the initiator's again; what was in them is kept. */
	fill(self->buf, LEN, 9);
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));

	/* The id and its range stay taken until they are given back. */
	next = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	EXPECT_NE(id, next->id);
	EXPECT_NE(p, (char *)next->iov[0].iov_base);
	zc_serve(z, next);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_EQ(1, zc_count(z).kept_cmds);
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
	zc_keep(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	/* It is the handler's to scribble on, and goes nowhere. */
	EXPECT_TRUE(is_filled(p, LEN, 2));
	memset(p, 'X', LEN);
	EXPECT_TRUE(is_all(p, LEN, 'X'));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(SIGBUS, probe_read(p));
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
	zc_keep(z, cmd);
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
	zc_keep(z, cmd);
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
	char *p;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	EXPECT_EQ(0, probe_read(p));
	tzc_scsi(&z->tgt, cmd);
	zc_keep(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(p, LEN, 1));
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 2));
	EXPECT_EQ(SIGBUS, probe_read(p));
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

TEST_F(zc_timeout, copy_then_command_fails)
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
	/* Each side does what it likes with its own. */
	memset(self->buf, 'i', 2 * LEN);
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));
	EXPECT_TRUE(is_all(q, PG, 'x'));
	memset(q, 'y', LEN);
	EXPECT_TRUE(is_all(q, LEN, 'y'));
	EXPECT_EQ(2, zc_count(z).kept_cmds);

	/* The ranges aren't anybody else's until the handler is done. */
	next = HOLD(&io, TZC_READ, self->buf + 2 * LEN, LEN, T_OFF);
	EXPECT_NE(p, (char *)next->iov[0].iov_base);
	EXPECT_NE(q, (char *)next->iov[0].iov_base);
	zc_serve(z, next);
	EXPECT_EQ(LEN, zc_io_wait(&io));

	/* It is done, late. */
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_TRUE(is_all(q, LEN, 'y'));
	zc_done(z, w);
	zc_done(z, r);
	EXPECT_TRUE(is_all(self->buf, 2 * LEN, 'i'));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(q));

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
	EXPECT_EQ('X', *p);
	zc_done(z, cmd);
	EXPECT_EQ(SIGBUS, probe_read(p));
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
	/* Its mapping outlives the device, and so does what is in it. */
	EXPECT_TRUE(is_filled(p, LEN, 1));
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
	zc_keep(z, cmd);
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(1, zc_count(z).kept_cmds);
}

/* Somebody at work in a buffer: goes round it until told to stop */
struct worker {
	pthread_t thr;
	volatile char *p;
	bool write, stop;
	unsigned long rounds, wrong;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	size_t i;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		for (i = 0; i < LEN; i++) {
			if (w->write)
				w->p[i] = i;
			w->wrong += w->p[i] != (char)i;
		}
		w->rounds++;
	}
	return NULL;
}

/* A timeout in the middle of a memcpy(), in both directions */
TEST_F(zc_timeout, handler_is_in_it)
{
	struct worker worker[2] = { };
	struct zc *z = &self->z;
	struct tzc_cmd *cmd[2];
	unsigned long rounds[2];
	int i;

	for (i = 0; i < LEN; i++)
		self->buf[i] = i;
	cmd[0] = HOLD_SG(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	cmd[1] = HOLD_SG(&self->io2, TZC_READ, self->buf + LEN, LEN, T_OFF);
	for (i = 0; i < 2; i++) {
		worker[i].p = cmd[i]->iov[0].iov_base;
		worker[i].write = i;
		ASSERT_EQ(0, pthread_create(&worker[i].thr, NULL, work,
					    &worker[i]));
	}
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	EXPECT_EQ(-EIO, zc_io_wait(&self->io2));
	memset(self->buf, 'i', 2 * LEN);
	/* Once round, at least, after that */
	for (i = 0; i < 2; i++)
		rounds[i] = __atomic_load_n(&worker[i].rounds, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++) {
		uint64_t began = tzc_now_ms();

		while (__atomic_load_n(&worker[i].rounds, __ATOMIC_RELAXED) <
		       rounds[i] + 2 && tzc_now_ms() - began < SOON)
			sched_yield();
		EXPECT_LE(rounds[i] + 2, worker[i].rounds);
	}
	for (i = 0; i < 2; i++) {
		__atomic_store_n(&worker[i].stop, true, __ATOMIC_RELEASE);
		pthread_join(worker[i].thr, NULL);
		EXPECT_EQ(0, worker[i].wrong);
	}
	EXPECT_TRUE(is_all(self->buf, 2 * LEN, 'i'));
	EXPECT_EQ(2, zc_count(z).kept_cmds);
	for (i = 0; i < 2; i++)
		zc_done(z, cmd[i]);
}

/* Blocks are given back: three times what there are. */
TEST_F(zc_timeout, copies_are_given_back)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	uint16_t id;
	char *big;
	int i;

	big = mem_get(MEM_ANON, MB);
	ASSERT_NE(NULL, big);
	for (i = 0; i < 3 * 16; i++) {
		fill(big, MB, i);
		cmd = HOLD(&self->io, TZC_WRITE, big, MB, T_OFF);
		id = cmd->id;
		zc_keep(z, cmd);
		EXPECT_EQ(MB, zc_io_wait(&self->io));
		EXPECT_TRUE(is_filled(zc_range(z), MB, i));
		EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	}
	EXPECT_EQ(3 * 16, zc_count(z).kept_cmds);
}

/* A restarted handler finds what has expired where its iovec says. */
TEST_F(zc_timeout, restarted)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;

	cmd = HOLD_SG(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	free(cmd);
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	memset(self->buf, 'i', LEN);
	tzc_srv_close(&z->srv);
	ASSERT_EQ(0, tzc_srv_open(&z->srv, &z->dev, &z->tgt));
	cmd = zc_wait(z);
	ASSERT_NE(NULL, cmd);
	ASSERT_TRUE(tzc_is_mapped(cmd));
	EXPECT_TRUE(is_filled(cmd->iov[0].iov_base, LEN, 1));
	zc_done(z, cmd);
}

/* --- no room for a copy -------------------------------------------- */

FIXTURE(zc_no_room) {
	struct zc z;
	char *buf;
	struct zc_io io;
};

FIXTURE_SETUP(zc_no_room)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.time_out = 3;
	o.area_mb = 1;
	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, MB);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, MB, 1);
}

FIXTURE_TEARDOWN(zc_no_room)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

TEST_F(zc_no_room, kept)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	uint16_t id;
	char *p;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	EXPECT_EQ(0, probe_read(p));
	zc_keep(z, cmd);
	EXPECT_EQ(MB, zc_io_wait(&self->io));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(0, zc_count(z).kept_cmds);
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
}

/* Late, but it does time out. */
TEST_F_TIMEOUT(zc_no_room, timed_out, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD_SG(&self->io, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(-EIO, zc_io_wait_ms(&self->io, 3 * SOON));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(0, zc_count(z).kept_cmds);
	zc_done(z, cmd);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
}

TZC_MAIN(TZC_NEED_MAPPED)
