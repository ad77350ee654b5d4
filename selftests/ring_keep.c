// SPDX-License-Identifier: GPL-2.0
/* ring_keep: Buffers that were kept are given back, once, and none is lost. */
#include "zc_test.h"

#define LEN	(16 * PG)

FIXTURE(ring_keep) {
	struct zc z;
	char *buf;
	struct zc_io io[2];
};

FIXTURE_SETUP(ring_keep)
{
	struct tzc_opts o = TZC_OPTS_STOCK;

	o.time_out = 3;
	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
}

FIXTURE_TEARDOWN(ring_keep)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

static void keep(struct zc *z, struct tzc_cmd *cmd)
{
	tzc_scsi(&z->tgt, cmd);
	zc_keep(z, cmd);
}

/* 0 is no id, but with two commands the XArray has an entry for it. */
TEST_F(ring_keep, id_zero)
{
	struct zc *z = &self->z;
	struct tzc_cmd *a, *b;
	uint16_t id;

	a = CATCH_IO(&self->io[0], false, TZC_WRITE, self->buf, LEN, T_OFF);
	id = a->id;
	keep(z, a);
	EXPECT_EQ(LEN, zc_io_wait(&self->io[0]));
	b = CATCH_IO(&self->io[1], false, TZC_WRITE, self->buf, LEN, T_OFF);
	EXPECT_NE(id, b->id);
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", 0));
	/* Nobody may free one that is in flight. */
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", b->id));
	zc_serve(z, b);
	EXPECT_EQ(LEN, zc_io_wait(&self->io[1]));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(-EINVAL, tzc_action(&z->dev, "free_kept_buf", id));
}

/* One kept, one expired. kmemleak finds what leaks. */
TEST_F(ring_keep, removed_with_the_device)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;

	cmd = CATCH_IO(&self->io[0], true, TZC_WRITE, self->buf, LEN, T_OFF);
	keep(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io[0]));
	cmd = CATCH_IO(&self->io[1], true, TZC_WRITE, self->buf, LEN, T_OFF);
	EXPECT_EQ(-EIO, zc_io_wait(&self->io[1]));
	free(cmd);
	close(z->fd);
	z->fd = -1;
	/* Serve what the removal may send. */
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, tzc_destroy(&z->dev));
}

TZC_MAIN(0)
