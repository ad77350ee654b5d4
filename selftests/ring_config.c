// SPDX-License-Identifier: GPL-2.0
/*
 * ring_config: Impossible sizes of the data area are refused, and offsets
 * above 4 GiB are what they should be.
 */
#include "zc_test.h"

#define GLOBAL_MAX "/sys/module/target_core_user/parameters/global_max_data_area_mb"

FIXTURE(ring_config) {
	struct zc z;
	char global[32];	/* what GLOBAL_MAX was, if it was changed */
};

FIXTURE_SETUP(ring_config)
{
	ASSERT_EQ(0, zc_mkdev(&self->z));
}

FIXTURE_TEARDOWN(ring_config)
{
	EXPECT_EQ(0, zc_down(&self->z));
	if (self->global[0])
		EXPECT_EQ(0, tzc_write_file(GLOBAL_MAX, "%s", self->global));
}

TEST_F(ring_config, bad_blocks_refused)
{
	static const char *const bad[] = { "0", "-1", "1000000" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EINVAL, tzc_control(&self->z.dev,
					       "data_pages_per_blk=%s", bad[i])) {
			TH_LOG("case %zu", i);
		}
	}
}

/* A block of 2 GiB, or of nothing modulo 2^32, and a number of pages < 0 */
TEST_F(ring_config, sizes_that_overflow)
{
	const unsigned long blk_max = (1UL << 31) / PG;
	char val[32];

	ASSERT_LT(0, tzc_read_file(GLOBAL_MAX, self->global, sizeof(self->global)));
	EXPECT_EQ(-EINVAL, tzc_write_file(GLOBAL_MAX, "%ld",
					  (1UL << 31) / (MB / PG)));
	ASSERT_LT(0, tzc_read_file(GLOBAL_MAX, val, sizeof(val)));
	EXPECT_STREQ(self->global, val);

	/* Let the area be large enough, so that the block is what's wrong. */
	ASSERT_EQ(0, tzc_write_file(GLOBAL_MAX, "8192"));
	ASSERT_EQ(0, tzc_control(&self->z.dev, "max_data_area_mb=8192"));
	EXPECT_EQ(-EINVAL, tzc_control(&self->z.dev, "data_pages_per_blk=%lu",
				       blk_max));
	EXPECT_EQ(-EINVAL, tzc_control(&self->z.dev, "data_pages_per_blk=%lu",
				       2 * blk_max));
	EXPECT_EQ(0, tzc_control(&self->z.dev, "data_pages_per_blk=%lu",
				 blk_max / 2));
	/* 2^31 bytes of ring: the largest is taken instead */
	EXPECT_EQ(0, tzc_control(&self->z.dev, "cmd_ring_size_mb=2048"));
}

/* Blocks of 64 MiB are kept until one is beyond 4 GiB. */
TEST_F_TIMEOUT(ring_config, blocks_above_4g, 120)
{
	struct tzc_opts o = TZC_OPTS_STOCK;
	const unsigned long blk = 64 * MB;
	char *buf = mem_get(MEM_ANON, MB);
	struct zc *z = &self->z;
	struct zc_io io = { };
	struct tzc_cmd *cmd;
	uint64_t base = 0;
	unsigned int i;

	if (sizeof(void *) < 8)
		SKIP(return, "no such mapping with 32 bits");
	ASSERT_NE(NULL, buf);
	ASSERT_LT(0, tzc_read_file(GLOBAL_MAX, self->global, sizeof(self->global)));
	ASSERT_EQ(0, tzc_write_file(GLOBAL_MAX, "8192"));
	o.area_mb = 8192;
	o.blk_pages = blk / PG;
	ASSERT_EQ(0, tzc_configure(&z->dev, &o));
	ASSERT_EQ(0, zc_start(z, "ram", 0));
	tzc_srv_stop(&z->srv);

	for (i = 0; i < 66; i++) {
		fill(buf, MB, i);
		cmd = CATCH_IO(&io, false, TZC_WRITE, buf, MB, T_OFF);
		ASSERT_EQ(1, cmd->iov_cnt);
		if (!i)
			base = (char *)cmd->iov[0].iov_base - z->srv.ring.map;
		EXPECT_EQ(base + i * blk,
			  (char *)cmd->iov[0].iov_base - z->srv.ring.map);
		EXPECT_EQ(MB, cmd->iov[0].iov_len);
		/* There is nothing at an address that has wrapped. */
		if (cmd->iov[0].iov_base != z->srv.ring.map + base + i * blk) {
			zc_done(z, cmd);
			zc_io_wait(&io);
			break;
		}
		EXPECT_TRUE(is_filled(cmd->iov[0].iov_base, MB, i));
		zc_keep(z, cmd);
		EXPECT_EQ(MB, zc_io_wait(&io));
	}
}

/* Refused values have not been taken over. */
TEST_F(ring_config, works_after_refusal)
{
	const struct tzc_opts o = TZC_OPTS_STOCK;
	char *buf = mem_get(MEM_ANON, MB);

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	EXPECT_EQ(-EINVAL, tzc_control(&self->z.dev, "data_pages_per_blk=0"));
	ASSERT_EQ(0, zc_start(&self->z, "ram", 0));
	fill(buf, MB, 1);
	EXPECT_EQ(MB, do_rw(self->z.fd, TZC_WRITE, buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, MB, 1));
}

TZC_MAIN(0)
