// SPDX-License-Identifier: GPL-2.0
/*
 * zc_space: Commands that find no room in the zero-copy range are copied, and
 * no copy is kept without room in the data area.
 */
#include "zc_test.h"

#define LEN	MB
#define NR	(TZC_RANGE_BYTES / LEN)
#define AREA	(16 * MB)	/* that of TZC_OPTS_DEFAULT */

FIXTURE(zc_space) {
	struct zc z;
	char *buf;
	uint16_t *ids;
	pthread_t thr;
	ssize_t bad;
};

FIXTURE_SETUP(zc_space)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	self->ids = calloc(NR + 1, sizeof(*self->ids));
	ASSERT_NE(NULL, self->buf);
	ASSERT_NE(NULL, self->ids);
	fill(self->buf, LEN, 1);
}

FIXTURE_TEARDOWN(zc_space)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

static bool overlap(const struct tzc_cmd *a, const struct tzc_cmd *b)
{
	const char *p = a->iov[0].iov_base, *q = b->iov[0].iov_base;

	return p < q + b->iov[0].iov_len && q < p + a->iov[0].iov_len;
}

/* A command with an odd size gives back its own range, not its neighbour's. */
TEST_F(zc_space, odd_sizes_side_by_side)
{
	struct zc *z = &self->z;
	struct tzc_cmd *odd, *next, *last;
	struct zc_io io[3];

	odd = HOLD(&io[0], TZC_WRITE, self->buf, 3 * PG, T_OFF);
	next = HOLD(&io[1], TZC_WRITE, self->buf + 4 * PG, PG, T_OFF + 4 * PG);
	EXPECT_FALSE(overlap(odd, next));
	zc_serve(z, odd);
	EXPECT_EQ(3 * PG, zc_io_wait(&io[0]));
	last = HOLD(&io[2], TZC_WRITE, self->buf + 8 * PG, 4 * PG,
		    T_OFF + 8 * PG);
	EXPECT_FALSE(overlap(next, last));
	zc_serve(z, last);
	EXPECT_EQ(4 * PG, zc_io_wait(&io[2]));
	zc_serve(z, next);
	EXPECT_EQ(PG, zc_io_wait(&io[1]));
	EXPECT_EQ(0, memcmp(z->tgt.mem + T_OFF + 4 * PG, self->buf + 4 * PG,
			    PG));
	EXPECT_EQ(0, memcmp(z->tgt.mem + T_OFF + 8 * PG, self->buf + 8 * PG,
			    4 * PG));
}

static void *writer(void *arg)
{
	FIXTURE_DATA(zc_space) *self = arg;
	size_t i;

	for (i = 0; i < NR + 1 && !self->bad; i++)
		if (do_rw(self->z.fd, TZC_WRITE, self->buf, LEN, T_OFF) !=
		    (ssize_t)LEN)
			self->bad = i + 1;
	return NULL;
}

/* Kept buffers keep their ranges, so they add up. */
TEST_F_TIMEOUT(zc_space, full_range_then_freed, 120)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	size_t i, nr = 0;

	ASSERT_EQ(0, pthread_create(&self->thr, NULL, writer, self));
	for (i = 0; i < NR + 1; i++) {
		cmd = zc_wait(z);
		ASSERT_NE(NULL, cmd);
		ASSERT_EQ(LEN, cmd->len);
		if (!tzc_is_mapped(cmd)) {
			/* From the data area, with the right contents. */
			EXPECT_EQ(NR, i);
			zc_serve(z, cmd);
			EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
			break;
		}
		self->ids[nr++] = cmd->id;
		cmd->status = 0;
		zc_keep(z, cmd);
	}
	pthread_join(self->thr, NULL);
	EXPECT_EQ(0, self->bad);
	EXPECT_EQ(NR, nr);
	c = zc_count(z);
	EXPECT_EQ(NR, c.mapped_cmds);
	EXPECT_EQ(1, c.copied_cmds);
	EXPECT_EQ(1, c.space);
	EXPECT_EQ(LEN, c.missed_bytes);

	for (i = 0; i < nr; i++)
		ASSERT_EQ(0, tzc_action(&z->dev, "free_kept_buf", self->ids[i]));
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	ASSERT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	c = zc_count(z);
	EXPECT_EQ(1, c.mapped_cmds);
	EXPECT_EQ(0, c.space);
}

/* Copied commands have all of the data area; what has LEN bytes is mapped. */
#define SMALL	(LEN / 2)

FIXTURE(zc_full) {
	struct zc z;
	char *buf;
	struct tzc_cmd *cmd[AREA / SMALL];
	struct zc_io io[AREA / SMALL];
};

FIXTURE_SETUP(zc_full)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	size_t i;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	ASSERT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy_min_bytes",
				  "1048576"));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
	for (i = 0; i < AREA / SMALL; i++) {
		self->cmd[i] = CATCH_IO(&self->io[i], false, TZC_WRITE,
					self->buf, SMALL, T_OFF + i * SMALL);
		ASSERT_FALSE(tzc_is_mapped(self->cmd[i]));
	}
}

FIXTURE_TEARDOWN(zc_full)
{
	size_t i;

	for (i = 0; i < AREA / SMALL; i++) {
		if (!self->cmd[i])
			continue;
		zc_serve(&self->z, self->cmd[i]);
		EXPECT_EQ(SMALL, zc_io_wait(&self->io[i]));
	}
	EXPECT_EQ(0, zc_down(&self->z));
}

struct sent {
	struct zc *z;
	long long cmds;		/* that the target has got */
};

static long long nr_cmds(struct zc *z)
{
	char path[192], buf[32] = "";

	snprintf(path, sizeof(path), "%s/statistics/scsi_lu/num_cmds", z->dev.dir);
	tzc_read_file(path, buf, sizeof(buf));
	return atoll(buf);
}

static bool one_more(void *arg)
{
	struct sent *s = arg;

	return nr_cmds(s->z) > s->cmds;
}

/* A lent command goes to the handler at once, even if others wait for blocks. */
TEST_F_TIMEOUT(zc_full, lent_needs_no_block, 60)
{
	struct zc *z = &self->z;
	struct sent s = { z, nr_cmds(z) };
	struct zc_io large, waits = {
		.fd = z->fd, .dir = TZC_WRITE, .buf = self->buf, .len = SMALL,
		.off = T_OFF,
	};
	struct tzc_counters c;
	struct tzc_cmd *cmd;

	zc_count(z);
	ASSERT_EQ(0, zc_io_start(&waits));
	ASSERT_EQ(0, tzc_wait_for(one_more, &s, SOON));
	cmd = HOLD(&large, TZC_WRITE, self->buf, LEN, T_OFF + AREA);
	zc_serve(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&large));
	c = zc_count(z);
	EXPECT_EQ(1, c.mapped_cmds);
	EXPECT_EQ(0, c.copied_cmds);

	/* One block is enough for the one that waits. */
	zc_serve(z, self->cmd[0]);
	EXPECT_EQ(SMALL, zc_io_wait(&self->io[0]));
	self->cmd[0] = NULL;
	cmd = zc_wait(z);
	ASSERT_NE(NULL, cmd);
	zc_serve(z, cmd);
	EXPECT_EQ(SMALL, zc_io_wait(&waits));
	EXPECT_EQ(1, zc_count(z).copied_cmds);
}

/* Without a block that is free there is no copy either: the data is lost. */
TEST_F_TIMEOUT(zc_full, no_block_for_a_copy, 60)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct zc_io large;
	uint16_t id;
	char *p;

	zc_count(z);
	cmd = HOLD(&large, TZC_WRITE, self->buf, LEN, T_OFF + AREA);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	EXPECT_EQ(0, probe_read(p));
	cmd->status = 0;
	zc_keep(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&large));
	EXPECT_EQ(SIGBUS, probe_read(p));
	c = zc_count(z);
	EXPECT_EQ(0, c.kept_cmds);
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
}

TZC_MAIN(TZC_NEED_MAPPED)
