// SPDX-License-Identifier: GPL-2.0
/*
 * zc_never: If the administrator or the handler's side says so, nothing is
 * mapped, from one command to the next.
 */
#include "zc_test.h"

#define LEN	(16 * PG)

FIXTURE(zc_never) {
	struct zc z;
	char *buf;
	struct zc_io io[2];
};

FIXTURE_VARIANT(zc_never) {
	bool handler;	/* action/map_commands instead of zero_copy_mapped */
};

FIXTURE_VARIANT_ADD(zc_never, administrator) { .handler = false };
FIXTURE_VARIANT_ADD(zc_never, handler) { .handler = true };

FIXTURE_SETUP(zc_never)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	self->buf = mem_get(MEM_ANON, 2 * LEN);
	ASSERT_NE(NULL, self->buf);
}

FIXTURE_TEARDOWN(zc_never)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* "attrib/" is where tzc_attr_get() looks. */
static const char *const files[] = { "zero_copy_mapped", "../action/map_commands" };

static int set_mapped(struct zc *z, bool handler, const char *val)
{
	return tzc_attr_set(&z->dev, files[handler], val);
}

static long long get_mapped(struct zc *z, bool handler)
{
	long long val = -1;

	tzc_attr_get(&z->dev, files[handler], &val);
	return val;
}

TEST_F(zc_never, values)
{
	static const char *const bad[] = { "2", "-1", "x" };
	bool handler = variant->handler;
	struct zc *z = &self->z;
	size_t i;

	EXPECT_EQ(1, get_mapped(z, handler));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EINVAL, set_mapped(z, handler, bad[i])) {
			TH_LOG("%s", bad[i]);
		}
		if (handler)
			continue;
		EXPECT_EQ(-EINVAL, tzc_control(&z->dev, "zero_copy_mapped=%s",
					       bad[i])) {
			TH_LOG("%s", bad[i]);
		}
	}
	EXPECT_EQ(1, get_mapped(z, handler));
	EXPECT_EQ(0, handler ? set_mapped(z, handler, "0") :
			       tzc_control(&z->dev, "zero_copy_mapped=0"));
	EXPECT_EQ(0, get_mapped(z, handler));
	/* Each has its own. */
	EXPECT_EQ(1, get_mapped(z, !handler));
}

/* Both directions are right, and no PTE, fault or flush is counted. */
TEST_F(zc_never, copied)
{
	struct zc *z = &self->z;
	struct tzc_counters c;

	ASSERT_EQ(0, set_mapped(z, variant->handler, "0"));
	zc_count(z);
	fill(self->buf, LEN, 1);
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
	fill(z->tgt.mem + T_OFF, LEN, 2);
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_READ, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	c = zc_count(z);
	EXPECT_EQ(2, c.copied_cmds);
	EXPECT_EQ(0, c.mapped_cmds + c.faults + c.ahead + c.pages + c.unmaps);
	/* It isn't a failure of zero copy. */
	EXPECT_EQ(0, c.missed_bytes);
}

/* A command stays what it is; what comes after the switch is different. */
TEST_F(zc_never, in_flight)
{
	struct zc *z = &self->z;
	struct tzc_cmd *mapped, *copied;
	struct tzc_counters c;

	tzc_srv_stop(&z->srv);
	zc_count(z);
	fill(self->buf, LEN, 1);
	fill(self->buf + LEN, LEN, 2);
	mapped = HOLD(&self->io[0], TZC_WRITE, self->buf, LEN, T_OFF);
	ASSERT_EQ(0, set_mapped(z, variant->handler, "0"));
	copied = CATCH_IO(&self->io[1], false, TZC_WRITE, self->buf + LEN, LEN,
			  T_OFF + LEN);
	EXPECT_FALSE(tzc_is_mapped(copied));
	EXPECT_TRUE(is_filled(mapped->iov[0].iov_base, LEN, 1));
	zc_serve(z, copied);
	EXPECT_EQ(LEN, zc_io_wait(&self->io[1]));
	zc_serve(z, mapped);
	EXPECT_EQ(LEN, zc_io_wait(&self->io[0]));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF + LEN, LEN, 2));

	ASSERT_EQ(0, set_mapped(z, variant->handler, "1"));
	mapped = HOLD(&self->io[0], TZC_WRITE, self->buf + LEN, LEN, T_OFF);
	zc_serve(z, mapped);
	EXPECT_EQ(LEN, zc_io_wait(&self->io[0]));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 2));
	c = zc_count(z);
	EXPECT_EQ(2, c.mapped_cmds);
	EXPECT_EQ(1, c.copied_cmds);
}

/* A library writes it when it learns of the device, before that is enabled. */
TEST_F(zc_never, before_it_is_enabled)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	bool handler = variant->handler;
	struct tzc_counters c;
	struct zc z;

	ASSERT_EQ(0, zc_mkdev(&z));
	EXPECT_EQ(0, set_mapped(&z, handler, "0"));
	ASSERT_EQ(0, tzc_configure(&z.dev, &o));
	ASSERT_EQ(0, zc_start(&z, "ram", 0));
	EXPECT_EQ(0, get_mapped(&z, handler));
	fill(self->buf, LEN, 1);
	EXPECT_EQ(LEN, do_rw(z.fd, TZC_WRITE, self->buf, LEN, T_OFF));
	c = zc_count(&z);
	EXPECT_EQ(1, c.copied_cmds);
	EXPECT_EQ(0, c.mapped_cmds);
	EXPECT_EQ(0, zc_down(&z));
}

TZC_MAIN(TZC_NEED_MAPPED)
