// SPDX-License-Identifier: GPL-2.0
/*
 * zc_threshold: zero_copy_min_bytes decides, command by command, what is
 * mapped.
 */
#include "zc_test.h"

FIXTURE(zc_threshold) {
	struct zc z;
	char *buf;
};

FIXTURE_SETUP(zc_threshold)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.min_bytes = 16 * PG;
	ASSERT_EQ(0, zc_up(&self->z, &o));
	self->buf = mem_get(MEM_ANON, 32 * PG);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, 32 * PG, 1);
}

FIXTURE_TEARDOWN(zc_threshold)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

static int set_min(struct zc *z, size_t bytes)
{
	char val[32];

	snprintf(val, sizeof(val), "%zu", bytes);
	return tzc_attr_set(&z->dev, "zero_copy_min_bytes", val);
}

static struct tzc_counters write_one(struct zc *z, char *buf, size_t len)
{
	struct tzc_counters c = { };

	zc_count(z);
	if (do_rw(z->fd, TZC_WRITE, buf, len, T_OFF) == (ssize_t)len)
		c = zc_count(z);
	return c;
}

TEST_F(zc_threshold, below_is_copied_at_is_mapped)
{
	struct tzc_counters c;

	c = write_one(&self->z, self->buf, 15 * PG);
	EXPECT_EQ(0, c.mapped_cmds);
	EXPECT_EQ(1, c.copied_cmds);
	EXPECT_EQ(1, c.small);
	EXPECT_EQ(0, c.missed_bytes);
	c = write_one(&self->z, self->buf, 16 * PG);
	EXPECT_EQ(1, c.mapped_cmds);
	EXPECT_EQ(0, c.copied_cmds);
	c = write_one(&self->z, self->buf, 32 * PG);
	EXPECT_EQ(1, c.mapped_cmds);
	EXPECT_EQ(32 * PG, c.mapped_bytes);
}

TEST_F(zc_threshold, change_takes_effect_at_once)
{
	struct tzc_counters c;

	ASSERT_EQ(0, set_min(&self->z, PG));
	c = write_one(&self->z, self->buf, PG);
	EXPECT_EQ(1, c.mapped_cmds);
	ASSERT_EQ(0, set_min(&self->z, PG + 1));
	c = write_one(&self->z, self->buf, PG);
	EXPECT_EQ(1, c.small);
	EXPECT_EQ(1, c.copied_cmds);
}

TEST_F(zc_threshold, zero_admits_every_size)
{
	struct tzc_counters c;

	ASSERT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy_min_bytes", "0"));
	c = write_one(&self->z, self->buf, PG);
	EXPECT_EQ(1, c.mapped_cmds);
	c = write_one(&self->z, self->buf, 512);
	EXPECT_EQ(0, c.small);
	EXPECT_EQ(1, c.layout);
	EXPECT_EQ(512, c.missed_bytes);
}

TZC_MAIN(TZC_NEED_MAPPED)
