// SPDX-License-Identifier: GPL-2.0
/*
 * zc_shrinker: Giving the data area's pages back to the system leaves mapped
 * commands alone.
 */
#include "zc_test.h"

#define LEN	(16 * PG)
#define PARAM	"/sys/module/target_core_user/parameters/global_max_data_area_mb"

FIXTURE(zc_shrinker) {
	struct zc z;
	char *buf, limit[16];
};

FIXTURE_SETUP(zc_shrinker)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_LT(0, tzc_read_file(PARAM, self->limit, sizeof(self->limit)));
	ASSERT_EQ(0, zc_up(&self->z, &o));
	self->buf = mem_get(MEM_ANON, 8 * MB);
	ASSERT_NE(NULL, self->buf);
}

FIXTURE_TEARDOWN(zc_shrinker)
{
	if (self->limit[0])
		tzc_write_file(PARAM, "%s", self->limit);
	EXPECT_EQ(0, zc_down(&self->z));
}

/* Faults in the data area are refused once its pages have been freed. */
static bool area_freed(void *arg)
{
	struct zc *z = arg;

	/* Each write starts the work again. */
	tzc_write_file(PARAM, "1");
	return probe_read(z->srv.ring.map + TZC_RING_BYTES + 2 * MB) == SIGBUS;
}

TEST_F_TIMEOUT(zc_shrinker, mapped_commands_stay, 60)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	struct tzc_cmd *w, *r;
	struct zc_io io[2], big;
	struct tzc_cmd *cmd;
	char *p;
	int i;

	tzc_srv_stop(&z->srv);
	fill(self->buf, LEN, 1);
	w = HOLD(&io[0], TZC_WRITE, self->buf, LEN, T_OFF);
	r = HOLD(&io[1], TZC_READ, self->buf + LEN, LEN, T_OFF + LEN);
	EXPECT_TRUE(is_filled(w->iov[0].iov_base, LEN, 1));
	fill(r->iov[0].iov_base, LEN, 2);

	/* Fill some of the data area: 4 MiB that must be copied. */
	p = self->buf + MB + 512;
	fill(p, 4 * MB, 3);
	big = (struct zc_io){ .fd = z->fd, .dir = TZC_WRITE, .buf = p,
			      .len = 4 * MB, .off = T_OFF + MB };
	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_min_bytes", "16777216"));
	ASSERT_EQ(0, zc_io_start(&big));
	while ((i = zc_io_wait_ms(&big, 10)) == -ETIMEDOUT) {
		cmd = tzc_srv_wait_io(&z->srv, 10);
		if (cmd)
			zc_serve(z, cmd);
	}
	ASSERT_EQ(4 * MB, i);
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF + MB, 4 * MB, 3));
	ASSERT_EQ(0, probe_read(z->srv.ring.map + TZC_RING_BYTES));

	zc_count(z);
	ASSERT_EQ(0, tzc_wait_for(area_freed, z, SOON));
	EXPECT_TRUE(is_filled(w->iov[0].iov_base, LEN, 1));
	EXPECT_TRUE(is_filled(r->iov[0].iov_base, LEN, 2));
	/* They were not even unmapped. */
	c = zc_count(z);
	EXPECT_EQ(0, c.faults);

	zc_serve(z, w);
	zc_done(z, r);
	EXPECT_EQ(LEN, zc_io_wait(&io[0]));
	EXPECT_EQ(LEN, zc_io_wait(&io[1]));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
	EXPECT_TRUE(is_filled(self->buf + LEN, LEN, 2));
}

/* Both at once, again and again. */
TEST_F_TIMEOUT(zc_shrinker, at_work, 60)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	int i;

	ASSERT_EQ(0, tzc_write_file(PARAM, "1"));
	for (i = 0; i < 20; i++) {
		/* Copied, then mapped, then read the other way round. */
		char *p = self->buf + 512, *q = self->buf + 4 * MB;

		fill(p, 768 * KB, 10 + i);
		fill(q, MB, 50 + i);
		ASSERT_EQ(768 * KB, do_rw(z->fd, TZC_WRITE, p, 768 * KB, T_OFF));
		ASSERT_EQ(0, tzc_write_file(PARAM, "1"));
		ASSERT_EQ(MB, do_rw(z->fd, TZC_WRITE, q, MB, T_OFF + MB));
		memset(self->buf, 0, MB);
		memset(q, 0, MB);
		ASSERT_EQ(768 * KB, do_rw(z->fd, TZC_READ, self->buf, 768 * KB,
					  T_OFF));
		ASSERT_EQ(MB, do_rw(z->fd, TZC_READ, q + 512, MB, T_OFF + MB));
		ASSERT_TRUE(is_filled(self->buf, 768 * KB, 10 + i));
		ASSERT_TRUE(is_filled(q + 512, MB, 50 + i));
	}
	c = zc_count(z);
	EXPECT_LE(20 * (MB + 768 * KB), c.mapped_bytes);
	EXPECT_LT(0, c.copied_bytes);
}

TZC_MAIN(TZC_NEED_MAPPED)
