// SPDX-License-Identifier: GPL-2.0
/* ring_config: Sizes of the data area that cannot be are refused. */
#include "zc_test.h"

FIXTURE(ring_config) {
	struct zc z;
};

FIXTURE_SETUP(ring_config)
{
	ASSERT_EQ(0, zc_mkdev(&self->z));
}

FIXTURE_TEARDOWN(ring_config)
{
	EXPECT_EQ(0, zc_down(&self->z));
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

/* What was refused has not been taken. */
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
