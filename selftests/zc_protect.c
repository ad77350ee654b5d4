// SPDX-License-Identifier: GPL-2.0
/*
 * zc_protect: The handler can read a WRITE's pages and fill a READ's, until it
 * has completed it.
 */
#include "zc_test.h"
#include <sched.h>

#define LEN	(16 * PG)

FIXTURE(zc_protect) {
	struct zc z;
	char *buf;
};

FIXTURE_SETUP(zc_protect)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, 4 * LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
	fill(self->buf + LEN, LEN, 2);
	fill(self->buf + 2 * LEN, LEN, 3);
	fill(self->buf + 3 * LEN, LEN, 4);
}

FIXTURE_TEARDOWN(zc_protect)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* --- WRITE pages are read-only ------------------------------------- */

TEST_F(zc_protect, store_into_write_data)
{
	struct tzc_cmd *cmd;
	struct zc_io io;
	char *p;

	cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));
	EXPECT_EQ(SIGBUS, probe_write(p + LEN - 1, 'X'));
	/* Still there, still the same. */
	EXPECT_TRUE(is_filled(p, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, LEN, 1));
}

TEST_F(zc_protect, store_as_first_touch)
{
	struct tzc_cmd *cmd;
	struct zc_io io;

	cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	EXPECT_EQ(SIGBUS, probe_write(cmd->iov[0].iov_base, 'X'));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, LEN, 1));
}

TEST_F(zc_protect, store_after_mprotect_round_trip)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *cmd;
	struct zc_io io;
	char *p;

	cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_read(p));
	ASSERT_EQ(0, mprotect(r->map, r->size, PROT_READ));
	EXPECT_EQ(SIGSEGV, probe_write(p, 'X'));
	ASSERT_EQ(0, mprotect(r->map, r->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));
	EXPECT_TRUE(is_filled(p, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
}

TEST_F(zc_protect, kernel_writes_into_write_data)
{
	struct tzc_cmd *cmd;
	struct zc_io io;
	int fd, mem;
	char *p;

	fd = open("/dev/zero", O_RDONLY);
	mem = open("/proc/self/mem", O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, mem);
	cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	/* First touch, then with the pages there. */
	EXPECT_EQ(-1, read(fd, p, PG));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(-1, read(fd, p, PG));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pwrite(mem, "X", 1, (off_t)p));
	EXPECT_NE(0, madvise(p, LEN, MADV_POPULATE_WRITE));
	EXPECT_TRUE(is_filled(p, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	close(mem);
	close(fd);
}

TEST_F(zc_protect, read_data_is_writable)
{
	struct tzc_cmd *cmd;
	struct zc_io io;
	char *p;
	int fd;

	fd = open("/dev/zero", O_RDONLY);
	ASSERT_LE(0, fd);
	cmd = HOLD(&io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_write(p, 'X'));
	EXPECT_EQ('X', p[0]);
	/* By the kernel as well. */
	EXPECT_EQ(PG, read(fd, p + PG, PG));
	fill(p + 2 * PG, LEN - 2 * PG, 5);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_EQ('X', self->buf[0]);
	EXPECT_TRUE(is_all(self->buf + PG, PG, 0));
	EXPECT_TRUE(is_filled(self->buf + 2 * PG, LEN - 2 * PG, 5));
	close(fd);
}

/* --- the life of a mapping ----------------------------------------- */

TEST_F(zc_protect, gone_after_completion)
{
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct zc_io io;
	char *p;

	cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_TRUE(is_filled(p, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(p + LEN - 1));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));

	zc_count(&self->z);
	cmd = HOLD(&io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	memset(p, 'r', LEN);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));
	EXPECT_TRUE(is_all(self->buf, LEN, 'r'));
	c = zc_count(&self->z);
	EXPECT_EQ(1, c.mapped_cmds);
	EXPECT_EQ(1, c.faults + c.ahead);
	EXPECT_EQ(LEN / PG, c.pages);
	EXPECT_EQ(1, c.unmaps);
}

TEST_F(zc_protect, untouched_command)
{
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct zc_io io;

	cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	cmd->status = 0;
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	/* Nothing mapped, nothing to flush. */
	c = zc_count(&self->z);
	EXPECT_EQ(1, c.mapped_cmds);
	EXPECT_EQ(0, c.faults);
	EXPECT_EQ(c.ahead, c.unmaps);
}

TEST_F(zc_protect, range_without_command)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct zc_io io;
	char *p;

	EXPECT_EQ(SIGBUS, probe_read(zc_range(z)));
	EXPECT_EQ(SIGBUS, probe_write(zc_range(z) + TZC_RANGE_BYTES / 2, 'X'));
	EXPECT_EQ(SIGBUS, probe_read(zc_range(z) + TZC_RANGE_BYTES - 1));

	/* The neighbours of a live one, too. */
	cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_LE(zc_range(z), p);
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(p + LEN));
	if (p > zc_range(z))
		EXPECT_EQ(SIGBUS, probe_read(p - 1));
	zc_serve(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&io));
}

TEST_F(zc_protect, completion_leaves_others_mapped)
{
	struct tzc_cmd *cmd[3];
	struct tzc_counters c;
	struct zc_io io[3];
	int i;

	for (i = 0; i < 3; i++) {
		cmd[i] = HOLD(&io[i], TZC_WRITE, self->buf + i * LEN, LEN,
			      T_OFF + i * LEN);
		EXPECT_TRUE(is_filled(cmd[i]->iov[0].iov_base, LEN, i + 1));
	}
	/* The middle one, out of order. */
	char *gone = cmd[1]->iov[0].iov_base;

	zc_serve(&self->z, cmd[1]);
	EXPECT_EQ(LEN, zc_io_wait(&io[1]));
	zc_count(&self->z);
	EXPECT_EQ(SIGBUS, probe_read(gone));
	EXPECT_TRUE(is_filled(cmd[0]->iov[0].iov_base, LEN, 1));
	EXPECT_TRUE(is_filled(cmd[2]->iov[0].iov_base, LEN, 3));
	c = zc_count(&self->z);
	EXPECT_EQ(0, c.faults);
	zc_serve(&self->z, cmd[2]);
	zc_serve(&self->z, cmd[0]);
	EXPECT_EQ(LEN, zc_io_wait(&io[2]));
	EXPECT_EQ(LEN, zc_io_wait(&io[0]));
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF + i * LEN, LEN,
				      i + 1));
}

/* Several completions, one pass over the ring: one flush. */
TEST_F(zc_protect, one_flush_per_pass)
{
	struct tzc_cmd *cmd[4];
	struct tzc_counters c;
	struct zc_io io[4];
	char *p[4];
	int i;

	for (i = 0; i < 4; i++) {
		cmd[i] = HOLD(&io[i], TZC_WRITE, self->buf + i * LEN, LEN,
			      T_OFF + i * LEN);
		p[i] = cmd[i]->iov[0].iov_base;
		tzc_scsi(&self->z.tgt, cmd[i]);
	}
	zc_count(&self->z);
	for (i = 0; i < 4; i++)
		tzc_complete(&self->z.srv.ring, cmd[i]);
	tzc_notify(&self->z.srv.ring);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(LEN, zc_io_wait(&io[i]));
		EXPECT_EQ(SIGBUS, probe_read(p[i]));
	}
	c = zc_count(&self->z);
	EXPECT_EQ(1, c.unmaps);
}

/* More than fit into one flush: none of them may be forgotten. */
TEST_F_TIMEOUT(zc_protect, many_in_one_pass, 60)
{
	enum { NR = 70 };
	struct tzc_cmd *cmd[NR];
	struct tzc_counters c;
	struct zc_io io[NR];
	char *buf, *p[NR];
	int i;

	buf = mem_get(MEM_ANON, NR * PG);
	ASSERT_NE(NULL, buf);
	for (i = 0; i < NR; i++) {
		cmd[i] = HOLD(&io[i], TZC_READ, buf + i * PG, PG,
			      T_OFF + i * PG);
		p[i] = cmd[i]->iov[0].iov_base;
		fill(p[i], PG, 200 + i);
	}
	zc_count(&self->z);
	for (i = 0; i < NR; i++)
		tzc_complete(&self->z.srv.ring, cmd[i]);
	tzc_notify(&self->z.srv.ring);
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(PG, zc_io_wait(&io[i]));
		EXPECT_TRUE(is_filled(buf + i * PG, PG, 200 + i));
		EXPECT_EQ(SIGBUS, probe_read(p[i]));
	}
	c = zc_count(&self->z);
	EXPECT_EQ(2, c.unmaps);
}

/* An initiator on another CPU, which looks as soon as it has its READ. */
struct witness {
	pthread_t thr;
	int fd;
	char *buf, *p;
	ssize_t ret;
	int sig;
};

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* With one CPU only, there is nothing to see. */
	sched_setaffinity(0, sizeof(set), &set);
}

static void *witness_thread(void *arg)
{
	struct witness *w = arg;

	pin_to(1);
	w->ret = do_rw(w->fd, TZC_READ, w->buf, LEN, T_OFF);
	w->sig = probe_read(w->p);
	return NULL;
}

/*
 * The pages are unmapped before the command is completed, not soon after.
 * Copying the others of the same pass takes long enough to see the difference.
 */
TEST_F_TIMEOUT(zc_protect, unmapped_when_completed, 60)
{
	enum { NR = 8, SIZE = 768 * KB, STRIDE = MB };
	struct tzc_cmd *cmd, *copied[NR];
	struct witness w;
	struct zc_io io[NR];
	int i, round;
	char *buf;

	buf = mem_get(MEM_ANON, NR * STRIDE);
	ASSERT_NE(NULL, buf);
	memset(buf, 'x', NR * STRIDE);
	pin_to(0);
	for (round = 0; round < 3; round++) {
		w = (struct witness){ .fd = self->z.fd, .buf = self->buf };
		ASSERT_EQ(0, pthread_create(&w.thr, NULL, witness_thread, &w));
		cmd = zc_wait(&self->z);
		ASSERT_NE(NULL, cmd);
		ASSERT_TRUE(tzc_is_mapped(cmd));
		w.p = cmd->iov[0].iov_base;
		fill(w.p, LEN, round + 1);
		for (i = 0; i < NR; i++) {
			io[i] = (struct zc_io){
				.fd = self->z.fd, .dir = TZC_READ, .len = SIZE,
				.buf = buf + i * STRIDE + 512, .off = T_OFF,
			};
			ASSERT_EQ(0, zc_io_start(&io[i]));
			copied[i] = zc_wait(&self->z);
			ASSERT_NE(NULL, copied[i]);
			ASSERT_FALSE(tzc_is_mapped(copied[i]));
			ASSERT_EQ(SIZE, copied[i]->len);
		}
		tzc_complete(&self->z.srv.ring, cmd);
		for (i = 0; i < NR; i++)
			tzc_complete(&self->z.srv.ring, copied[i]);
		tzc_notify(&self->z.srv.ring);
		pthread_join(w.thr, NULL);
		EXPECT_EQ(LEN, w.ret);
		EXPECT_EQ(SIGBUS, w.sig);
		EXPECT_TRUE(is_filled(self->buf, LEN, round + 1));
		for (i = 0; i < NR; i++)
			EXPECT_EQ(SIZE, zc_io_wait(&io[i]));
	}
}

/* Whether a fault is saved is a matter of luck, but not of that much. */
TEST_F_TIMEOUT(zc_protect, mapped_ahead_of_the_fault, 60)
{
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct zc_io io;
	int i;

	for (i = 0; i < 20; i++) {
		cmd = HOLD(&io, i & 1 ? TZC_READ : TZC_WRITE, self->buf, LEN,
			   T_OFF);
		zc_serve(&self->z, cmd);
		ASSERT_EQ(LEN, zc_io_wait(&io));
	}
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	c = zc_count(&self->z);
	EXPECT_LT(0, c.ahead);
	EXPECT_EQ(20, c.ahead + c.faults);
}

/* A range used again shows the new command's data, never the old one's. */
TEST_F_TIMEOUT(zc_protect, range_reused, 60)
{
	struct tzc_cmd *cmd;
	struct zc_io io;
	int i;

	for (i = 0; i < 50; i++) {
		fill(self->buf, LEN, 100 + i);
		cmd = HOLD(&io, TZC_WRITE, self->buf, LEN, T_OFF);
		EXPECT_TRUE(is_filled(cmd->iov[0].iov_base, LEN, 100 + i));
		zc_serve(&self->z, cmd);
		ASSERT_EQ(LEN, zc_io_wait(&io));
	}
}

TZC_MAIN(TZC_NEED_MAPPED)
