// SPDX-License-Identifier: GPL-2.0
/* ring_vma: A handler's mapping that was split still has the data area. */
#include "zc_test.h"

FIXTURE(ring_vma) {
	struct zc z;
};

FIXTURE_SETUP(ring_vma)
{
	const struct tzc_opts o = TZC_OPTS_STOCK;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
}

FIXTURE_TEARDOWN(ring_vma)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* Faults then come with another vm_pgoff. */
TEST_F_TIMEOUT(ring_vma, part_mprotected, 60)
{
	struct tzc_ring *r = &self->z.srv.ring;
	char *const spots[] = { r->map + 4 * MB, r->map + TZC_RING_BYTES + 3 * PG };
	char *buf;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(spots); i++)
		ASSERT_EQ(0, mprotect(spots[i], PG, PROT_READ));
	/* The handler won't write into those itself. */
	for (i = 0; i < ARRAY_SIZE(spots); i++)
		ASSERT_EQ(0, mprotect(spots[i], PG, PROT_READ | PROT_WRITE |
				      (i & 1 ? PROT_EXEC : 0)));
	ASSERT_EQ(0, tzc_srv_start(&self->z.srv));
	buf = mem_get(MEM_ANON, MB);
	ASSERT_NE(NULL, buf);
	fill(buf, MB, 70);
	ASSERT_EQ(MB, do_rw(self->z.fd, TZC_WRITE, buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, MB, 70));
	memset(buf, 0, MB);
	ASSERT_EQ(MB, do_rw(self->z.fd, TZC_READ, buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(buf, MB, 70));
}

TZC_MAIN(0)
