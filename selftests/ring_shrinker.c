// SPDX-License-Identifier: GPL-2.0
/*
 * ring_shrinker: Pages of the data area are freed also while nobody has the
 * device open.
 */
#include "zc_test.h"
#include <sys/sysmacros.h>

#define PARAM	"/sys/module/target_core_user/parameters/global_max_data_area_mb"

FIXTURE(ring_shrinker) {
	struct zc z;
	struct tzc_dev unopened;
	char *buf, limit[16];
};

FIXTURE_SETUP(ring_shrinker)
{
	const struct tzc_opts o = TZC_OPTS_STOCK;

	ASSERT_LT(0, tzc_read_file(PARAM, self->limit, sizeof(self->limit)));
	ASSERT_EQ(0, zc_up(&self->z, &o));
	self->buf = mem_get(MEM_ANON, 4 * MB);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, 4 * MB, 1);
	/* More than the limit that is set below. */
	ASSERT_EQ(4 * MB, do_rw(self->z.fd, TZC_WRITE, self->buf, 4 * MB,
				T_OFF));
}

FIXTURE_TEARDOWN(ring_shrinker)
{
	if (self->limit[0])
		tzc_write_file(PARAM, "%s", self->limit);
	if (self->unopened.dir[0])
		EXPECT_EQ(0, tzc_destroy(&self->unopened));
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

static void still_works(struct __test_metadata *_metadata,
			FIXTURE_DATA(ring_shrinker) *self)
{
	fill(self->buf, 4 * MB, 2);
	ASSERT_EQ(4 * MB, do_rw(self->z.fd, TZC_WRITE, self->buf, 4 * MB,
				T_OFF));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, 4 * MB, 2));
}

/*
 * The scan of a LUN without a handler leaves blocks with pages behind. The
 * newest device is the first that the work visits, so it is done with it when
 * it has freed those of the other one.
 */
TEST_F_TIMEOUT(ring_shrinker, never_opened, 120)
{
	struct tzc_opts o = TZC_OPTS_STOCK;

	o.time_out = 1;
	ASSERT_EQ(0, tzc_create(&self->unopened, T_PREFIX "unopened", &o));
	ASSERT_EQ(0, tzc_add_lun(&self->unopened));
	ASSERT_EQ(0, tzc_action(&self->unopened, "reset_ring", 2));
	ASSERT_EQ(0, tzc_wait_for(area_freed, &self->z, SOON));
	still_works(_metadata, self);
}

/* Opened by a node that doesn't exist any more. */
TEST_F_TIMEOUT(ring_shrinker, node_removed, 60)
{
	struct zc *z = &self->z;
	char path[64], uio[32];
	struct stat st;

	snprintf(path, sizeof(path), "/dev/%s", z->dev.uio);
	ASSERT_EQ(0, stat(path, &st));
	tzc_srv_close(&z->srv);
	z->srv.ring.fd = -1;
	memcpy(uio, z->dev.uio, sizeof(uio));
	snprintf(z->dev.uio, sizeof(z->dev.uio), "%.20s-again", uio);
	snprintf(path, sizeof(path), "/dev/%s", z->dev.uio);
	unlink(path);
	ASSERT_EQ(0, mknod(path, S_IFCHR | 0600, st.st_rdev));
	EXPECT_EQ(0, tzc_srv_open(&z->srv, &z->dev, &z->tgt));
	tzc_srv_close(&z->srv);
	z->srv.ring.fd = -1;
	EXPECT_EQ(0, unlink(path));
	memcpy(z->dev.uio, uio, sizeof(uio));

	/* The work comes while nobody has it open, and again when somebody has. */
	ASSERT_EQ(0, tzc_write_file(PARAM, "1"));
	ASSERT_EQ(0, tzc_srv_open(&z->srv, &z->dev, &z->tgt));
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	ASSERT_EQ(0, tzc_wait_for(area_freed, z, SOON));
	still_works(_metadata, self);
}

TZC_MAIN(0)
