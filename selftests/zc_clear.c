// SPDX-License-Identifier: GPL-2.0
/*
 * zc_clear: A handler without CAP_SYS_ADMIN does not see what READ pages held
 * before, and none leaves old memory of the kernel in a READ.
 */

/*
 * READ pages hold what their owner had in them. A handler that opened the
 * device without CAP_SYS_ADMIN must not see it, nor leave it there; a
 * privileged one is trusted.
 */
#include "zc_test.h"

#define LEN	(16 * PG)

struct shared {
	int err;
	bool opened;
	bool was_zero, was_data;
};

FIXTURE(zc_clear) {
	struct zc z;
	char *buf;
	struct shared *sh;
};

FIXTURE_SETUP(zc_clear)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	memset(self->buf, 0xaa, LEN);
	self->sh = mmap(NULL, sizeof(*self->sh), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->sh);
}

FIXTURE_TEARDOWN(zc_clear)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

enum what {
	TOUCH_NOTHING, FILL_HALF, READ_WRITE_DATA, FILL_UNANNOUNCED, ANNOUNCE,
	LOOK_AND_LEAVE, FILL_AND_LEAVE,
};

static bool is_privileged(enum what what)
{
	return what == FILL_UNANNOUNCED || what == FILL_AND_LEAVE;
}

/* In the child: one command, of an unprivileged handler unless it fills all. */
static int child_handler(struct zc *z, struct shared *sh, enum what what)
{
	struct tzc_srv s = { .stop_fd = -1 };
	struct tzc_cmd *cmd;
	char *p;

	if (!is_privileged(what) && (setgid(65534) || setuid(65534)))
		return 1;
	if (tzc_srv_open(&s, &z->dev, &z->tgt))
		return 2;
	sh->opened = true;
	if (what == ANNOUNCE)
		return tzc_notify(&s.ring) ? 5 : 0;
	cmd = tzc_srv_wait_io(&s, SOON);
	if (!cmd)
		return 3;
	if (!tzc_is_mapped(cmd))
		return 4;
	p = cmd->iov[0].iov_base;
	switch (what) {
	case TOUCH_NOTHING:
	case ANNOUNCE:
		break;
	case FILL_HALF:
		sh->was_zero = is_all(p, LEN, 0);
		fill(p, LEN / 2, 3);
		break;
	case READ_WRITE_DATA:
		sh->was_data = is_filled(p, LEN, 4);
		break;
	case FILL_UNANNOUNCED:
		fill(p, LEN, 5);
		break;
	case LOOK_AND_LEAVE:
		return is_all(p, LEN, 0) ? 0 : 6;
	case FILL_AND_LEAVE:
		fill(p, LEN, 6);
		return 0;
	}
	cmd->status = 0;
	tzc_complete(&s.ring, cmd);
	if (what != FILL_UNANNOUNCED)
		tzc_notify(&s.ring);
	return 0;
}

static pid_t start_child(struct zc *z, struct shared *sh, enum what what)
{
	char path[64];
	pid_t pid;

	/* The device can be open only once. */
	tzc_srv_close(&z->srv);
	z->srv.ring.fd = -1;
	sh->opened = false;
	snprintf(path, sizeof(path), "/dev/%s", z->dev.uio);
	if (chmod(path, 0666))
		return -1;
	pid = fork();
	if (!pid)
		_exit(child_handler(z, sh, what));
	return pid;
}

static int wait_child(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int run_child(struct zc *z, struct shared *sh, enum what what)
{
	return wait_child(start_child(z, sh, what));
}

static bool is_open(void *arg)
{
	return ((struct shared *)arg)->opened;
}

static ssize_t start_read(struct zc *z, struct zc_io *io, char *buf)
{
	*io = (struct zc_io){ .fd = z->fd, .dir = TZC_READ, .buf = buf,
			      .len = LEN, .off = T_OFF };
	return zc_io_start(io);
}

TEST_F(zc_clear, unprivileged_sees_zeroes)
{
	struct tzc_counters c;
	struct zc_io io;

	ASSERT_EQ(0, start_read(&self->z, &io, self->buf));
	ASSERT_EQ(0, run_child(&self->z, self->sh, FILL_HALF));
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(self->sh->was_zero);
	EXPECT_TRUE(is_filled(self->buf, LEN / 2, 3));
	/* What it left out stays zero. */
	EXPECT_TRUE(is_all(self->buf + LEN / 2, LEN / 2, 0));
	c = zc_count(&self->z);
	EXPECT_EQ(1, c.mapped_cmds);
	EXPECT_EQ(LEN / PG, c.cleared_pages);
}

/* The next handler must not see what a privileged one put there, either. */
TEST_F(zc_clear, former_handlers_data)
{
	struct zc_io io;

	ASSERT_EQ(0, start_read(&self->z, &io, self->buf));
	ASSERT_EQ(0, run_child(&self->z, self->sh, LOOK_AND_LEAVE));
	ASSERT_EQ(0, run_child(&self->z, self->sh, FILL_AND_LEAVE));
	ASSERT_EQ(0, run_child(&self->z, self->sh, FILL_HALF));
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(self->sh->was_zero);
	EXPECT_TRUE(is_all(self->buf + LEN / 2, LEN / 2, 0));
}

/* The same for a command that comes when the handler is there already. */
TEST_F(zc_clear, unprivileged_has_it_open)
{
	struct tzc_counters c;
	struct zc_io io;
	pid_t pid;

	pid = start_child(&self->z, self->sh, FILL_HALF);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, tzc_wait_for(is_open, self->sh, SOON));
	ASSERT_EQ(0, start_read(&self->z, &io, self->buf));
	ASSERT_EQ(0, wait_child(pid));
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(self->sh->was_zero);
	EXPECT_TRUE(is_filled(self->buf, LEN / 2, 3));
	EXPECT_TRUE(is_all(self->buf + LEN / 2, LEN / 2, 0));
	c = zc_count(&self->z);
	EXPECT_EQ(LEN / PG, c.cleared_pages);
}

/*
 * A handler answers a READ, and is killed before it can tell. The answer is in
 * the ring: what the next one must not see is still the initiator's data.
 */
TEST_F(zc_clear, answered_then_killed)
{
	struct tzc_counters c;
	struct zc_io io;

	ASSERT_EQ(0, start_read(&self->z, &io, self->buf));
	ASSERT_EQ(0, run_child(&self->z, self->sh, FILL_UNANNOUNCED));
	EXPECT_EQ(-ETIMEDOUT, zc_io_wait_ms(&io, 0));
	ASSERT_EQ(0, run_child(&self->z, self->sh, ANNOUNCE));
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 5));
	c = zc_count(&self->z);
	EXPECT_EQ(0, c.cleared_pages);
}

TEST_F(zc_clear, unprivileged_touches_nothing)
{
	struct tzc_counters c;
	struct zc_io io;

	ASSERT_EQ(0, start_read(&self->z, &io, self->buf));
	ASSERT_EQ(0, run_child(&self->z, self->sh, TOUCH_NOTHING));
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_all(self->buf, LEN, 0));
	c = zc_count(&self->z);
	EXPECT_EQ(LEN / PG, c.cleared_pages);
}

TEST_F(zc_clear, write_data_is_not_cleared)
{
	struct tzc_counters c;
	struct zc_io io;

	fill(self->buf, LEN, 4);
	io = (struct zc_io){ .fd = self->z.fd, .dir = TZC_WRITE,
			     .buf = self->buf, .len = LEN, .off = T_OFF };
	ASSERT_EQ(0, zc_io_start(&io));
	ASSERT_EQ(0, run_child(&self->z, self->sh, READ_WRITE_DATA));
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(self->sh->was_data);
	EXPECT_TRUE(is_filled(self->buf, LEN, 4));
	c = zc_count(&self->z);
	EXPECT_EQ(0, c.cleared_pages);
}

/*
 * The kernel itself reads, for somebody else: SG_IO has memory of its own for a
 * buffer that isn't aligned. Nobody is trusted to fill that.
 */
TEST_F(zc_clear, memory_of_the_kernel)
{
	char *buf = mem_get(MEM_ANON, LEN + PG);
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct zc_io io;

	ASSERT_NE(NULL, buf);
	cmd = HOLD_SG(&io, TZC_READ, buf + 1, LEN, T_OFF);
	EXPECT_TRUE(is_all(cmd->iov[0].iov_base, LEN, 0));
	memset(cmd->iov[0].iov_base, 'x', PG);
	zc_done(&self->z, cmd);
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_all(buf + 1, PG, 'x'));
	EXPECT_TRUE(is_all(buf + 1 + PG, LEN - PG, 0));
	c = zc_count(&self->z);
	EXPECT_EQ(1, c.mapped_cmds);
	/* The block layer clears such memory itself, so only this can tell. */
	EXPECT_EQ(LEN / PG, c.cleared_pages);
}

/* Documented: CAP_SYS_ADMIN at open means trusted with old contents. */
TEST_F(zc_clear, privileged_is_trusted)
{
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct zc_io io;

	cmd = HOLD(&io, TZC_READ, self->buf, LEN, T_OFF);
	EXPECT_TRUE(is_all(cmd->iov[0].iov_base, LEN, 0xaa));
	memset(cmd->iov[0].iov_base, 'x', PG);
	zc_done(&self->z, cmd);
	ASSERT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_all(self->buf, PG, 'x'));
	EXPECT_TRUE(is_all(self->buf + PG, LEN - PG, 0xaa));
	c = zc_count(&self->z);
	EXPECT_EQ(0, c.cleared_pages);
}

TZC_MAIN(TZC_NEED_MAPPED)
