// SPDX-License-Identifier: GPL-2.0
/* zc_restart: Mapped commands wait for a handler and survive its death. */
#include "zc_test.h"

#define NR	6
#define LEN	(16 * PG)

FIXTURE(zc_restart) {
	struct zc z;
	char *buf;
	struct zc_io io[NR];
};

FIXTURE_SETUP(zc_restart)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	self->buf = mem_get(MEM_ANON, NR * LEN);
	ASSERT_NE(NULL, self->buf);
	/* Nobody has the device open. */
	tzc_srv_close(&self->z.srv);
	self->z.srv.ring.fd = -1;
}

FIXTURE_TEARDOWN(zc_restart)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* WRITEs and READs by turns. */
static int start_all(struct zc *z, struct zc_io *io, char *buf)
{
	int i, ret = 0;

	for (i = 0; i < NR && !ret; i++) {
		char *p = buf + i * LEN;

		if (i & 1) {
			memset(p, 0xaa, LEN);
			fill(z->tgt.mem + T_OFF + i * LEN, LEN, 10 + i);
		} else {
			fill(p, LEN, 10 + i);
			memset(z->tgt.mem + T_OFF + i * LEN, 0, LEN);
		}
		io[i] = (struct zc_io){
			.fd = z->fd, .dir = i & 1 ? TZC_READ : TZC_WRITE,
			.buf = p, .len = LEN, .off = T_OFF + i * LEN,
		};
		ret = zc_io_start(&io[i]);
	}
	return ret;
}

/* Counted when the command enters the ring. */
static bool all_queued_since(void *arg)
{
	struct zc *z = arg;
	struct tzc_counters c;

	tzc_counters(&z->dev, &c);
	return c.mapped_cmds - z->last.mapped_cmds >= NR;
}

static void check_all(struct __test_metadata *_metadata,
		      FIXTURE_DATA(zc_restart) *self)
{
	int i;

	for (i = 0; i < NR; i++) {
		EXPECT_EQ(LEN, zc_io_wait(&self->io[i]));
		EXPECT_TRUE(is_filled(self->buf + i * LEN, LEN, 10 + i));
		EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF + i * LEN, LEN,
				      10 + i));
	}
}

TEST_F(zc_restart, queued_before_open)
{
	struct tzc_counters c;

	ASSERT_EQ(0, start_all(&self->z, self->io, self->buf));
	ASSERT_EQ(0, tzc_wait_for(all_queued_since, &self->z, SOON));
	ASSERT_EQ(0, tzc_srv_open(&self->z.srv, &self->z.dev, &self->z.tgt));
	ASSERT_EQ(0, tzc_srv_start(&self->z.srv));
	check_all(_metadata, self);
	c = zc_count(&self->z);
	EXPECT_EQ(NR, c.mapped_cmds);
	EXPECT_EQ(0, c.copied_cmds);
}

/* Nobody could map them ahead, nobody touched them: nothing to flush. */
TEST_F(zc_restart, untouched_without_flush)
{
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	int i;

	ASSERT_EQ(0, start_all(&self->z, self->io, self->buf));
	ASSERT_EQ(0, tzc_wait_for(all_queued_since, &self->z, SOON));
	ASSERT_EQ(0, tzc_srv_open(&self->z.srv, &self->z.dev, &self->z.tgt));
	for (i = 0; i < NR; i++) {
		cmd = zc_wait(&self->z);
		ASSERT_NE(NULL, cmd);
		zc_done(&self->z, cmd);
	}
	for (i = 0; i < NR; i++)
		EXPECT_EQ(LEN, zc_io_wait(&self->io[i]));
	c = zc_count(&self->z);
	EXPECT_EQ(NR, c.mapped_cmds);
	EXPECT_EQ(0, c.faults + c.ahead + c.pages);
	EXPECT_EQ(0, c.unmaps);
}

/* In the child: take all commands, touch them, finish one, tell, wait. */
static void victim(struct zc *z, int fd)
{
	struct tzc_srv *s = &z->srv;
	struct tzc_cmd *cmd;
	int i;

	if (tzc_srv_open(s, &z->dev, &z->tgt))
		_exit(1);
	for (i = 0; i < NR; i++) {
		cmd = tzc_srv_wait_io(s, SOON);
		if (!cmd || !tzc_is_mapped(cmd))
			_exit(2);
		if (cmd->dir == TZC_READ)
			memset(cmd->iov[0].iov_base, 'v', LEN / 2);
		else
			probe_read(cmd->iov[0].iov_base);
		/* In order, so that the ring tells what is left. */
		if (!i)
			zc_serve(z, cmd);
	}
	if (write(fd, "t", 1) != 1)
		_exit(3);
	for (;;)
		pause();
}

TEST_F(zc_restart, killed_in_flight)
{
	int pipefd[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_EQ(0, start_all(&self->z, self->io, self->buf));
	ASSERT_EQ(0, tzc_wait_for(all_queued_since, &self->z, SOON));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		victim(&self->z, pipefd[1]);
	close(pipefd[1]);
	ASSERT_EQ(1, read(pipefd[0], &c, 1));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));

	/* The next one finds the rest through the fault path. */
	ASSERT_EQ(0, tzc_srv_open(&self->z.srv, &self->z.dev, &self->z.tgt));
	ASSERT_EQ(0, tzc_srv_start(&self->z.srv));
	check_all(_metadata, self);
}

TEST_F(zc_restart, exec_in_flight)
{
	int pipefd[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(pipefd));
	ASSERT_EQ(0, start_all(&self->z, self->io, self->buf));
	ASSERT_EQ(0, tzc_wait_for(all_queued_since, &self->z, SOON));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct tzc_cmd *cmd;

		if (tzc_srv_open(&self->z.srv, &self->z.dev, &self->z.tgt))
			_exit(1);
		cmd = zc_wait(&self->z);
		if (!cmd || probe_read(cmd->iov[0].iov_base))
			_exit(2);
		if (write(pipefd[1], "t", 1) != 1)
			_exit(3);
		/* Its mapping and, close-on-exec, its device go. */
		execlp("sh", "sh", "-c", ":", NULL);
		_exit(4);
	}
	ASSERT_EQ(1, read(pipefd[0], &c, 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(0, WEXITSTATUS(status));
	ASSERT_EQ(0, tzc_srv_open(&self->z.srv, &self->z.dev, &self->z.tgt));
	ASSERT_EQ(0, tzc_srv_start(&self->z.srv));
	check_all(_metadata, self);
}

TZC_MAIN(TZC_NEED_MAPPED)
