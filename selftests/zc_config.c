// SPDX-License-Identifier: GPL-2.0
/*
 * zc_config: The switches and the threshold, and what they change in the map
 * and the ring.
 */
#include "zc_test.h"

FIXTURE(zc_config) {
	struct zc z;
};

FIXTURE_SETUP(zc_config)
{
	ASSERT_EQ(0, zc_mkdev(&self->z));
}

FIXTURE_TEARDOWN(zc_config)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

#define ATTR(name) ({							\
	long long _v = -1;						\
	ASSERT_EQ(0, tzc_attr_get(&self->z.dev, name, &_v));		\
	_v;								\
})

TEST_F(zc_config, off_by_default)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.zero_copy = -1;
	o.min_bytes = -1;
	EXPECT_EQ(0, ATTR("zero_copy"));
	EXPECT_EQ(65536, ATTR("zero_copy_min_bytes"));
	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	ASSERT_EQ(0, tzc_enable(&self->z.dev));
	EXPECT_EQ(0, ATTR("zero_copy"));
	EXPECT_EQ(TZC_RING_BYTES + 16 * MB, self->z.dev.map_size);
}

TEST_F(zc_config, control_sets_attributes)
{
	ASSERT_EQ(0, tzc_control(&self->z.dev,
				 "zero_copy=1,zero_copy_min_bytes=12345"));
	EXPECT_EQ(1, ATTR("zero_copy"));
	EXPECT_EQ(12345, ATTR("zero_copy_min_bytes"));
	ASSERT_EQ(0, tzc_control(&self->z.dev, "zero_copy=0"));
	EXPECT_EQ(0, ATTR("zero_copy"));
	ASSERT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy", "1"));
	EXPECT_EQ(1, ATTR("zero_copy"));
}

/* As targetcli shows it. */
TEST_F(zc_config, info_tells)
{
	char path[192], info[512] = "";

	snprintf(path, sizeof(path), "%s/info", self->z.dev.dir);
	ASSERT_EQ(0, tzc_control(&self->z.dev, "zero_copy=1"));
	ASSERT_LT(0, tzc_read_file(path, info, sizeof(info)));
	EXPECT_NE(NULL, strstr(info, "ZeroCopy: 1"));
	ASSERT_EQ(0, tzc_control(&self->z.dev, "zero_copy=0"));
	ASSERT_LT(0, tzc_read_file(path, info, sizeof(info)));
	EXPECT_NE(NULL, strstr(info, "ZeroCopy: 0"));
}

TEST_F(zc_config, bad_values_refused)
{
	static const char *const controls[] = {
		"zero_copy=2", "zero_copy=-1", "zero_copy=x",
		"zero_copy_min_bytes=-1", "zero_copy_min_bytes=x",
		"zero_copy_in_place=2", "zero_copy_in_place=x",
	};
	static const char *const bad_switch[] = { "2", "-1", "x", "" };
	static const char *const bad_bytes[] = { "-1", "x", "" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(controls); i++) {
		EXPECT_EQ(-EINVAL, tzc_control(&self->z.dev, "%s", controls[i])) {
			TH_LOG("case %zu", i);
		}
	}
	/* An empty string is no write at all. */
	for (i = 0; bad_switch[i][0]; i++) {
		EXPECT_EQ(-EINVAL, tzc_attr_set(&self->z.dev, "zero_copy",
						bad_switch[i])) {
			TH_LOG("case %zu", i);
		}
	}
	for (i = 0; bad_bytes[i][0]; i++) {
		EXPECT_EQ(-EINVAL, tzc_attr_set(&self->z.dev,
						"zero_copy_min_bytes",
						bad_bytes[i])) {
			TH_LOG("case %zu", i);
		}
	}
	EXPECT_EQ(0, ATTR("zero_copy"));
	EXPECT_EQ(65536, ATTR("zero_copy_min_bytes"));
}

TEST_F(zc_config, switch_busy_while_enabled)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	ASSERT_EQ(0, tzc_enable(&self->z.dev));
	EXPECT_EQ(-EBUSY, tzc_attr_set(&self->z.dev, "zero_copy", "0"));
	EXPECT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy", "1"));
	EXPECT_EQ(-EINVAL, tzc_attr_set(&self->z.dev, "zero_copy", "2"));
	EXPECT_NE(0, tzc_control(&self->z.dev, "zero_copy=0"));
	EXPECT_EQ(1, ATTR("zero_copy"));
}

TEST_F(zc_config, switch_busy_while_enabled_off)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.zero_copy = 0;
	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	ASSERT_EQ(0, tzc_enable(&self->z.dev));
	EXPECT_EQ(-EBUSY, tzc_attr_set(&self->z.dev, "zero_copy", "1"));
	EXPECT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy", "0"));
	EXPECT_EQ(0, ATTR("zero_copy"));
}

/* One switch for both, unless the other one is mentioned: in any order. */
TEST_F(zc_config, in_place_follows)
{
	static const struct {
		const char *control;
		int in_place;
	} cases[] = {
		{ "zero_copy=1", 1 },
		{ "zero_copy=1,zero_copy_in_place=0", 0 },
		{ "zero_copy_in_place=0,zero_copy=1", 0 },
		{ "zero_copy=0,zero_copy_in_place=1", 1 },
		{ "zero_copy_in_place=1,zero_copy=0", 1 },
		{ "zero_copy=0", 0 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		/* Whether it was mentioned is remembered: a new device. */
		ASSERT_EQ(0, tzc_destroy(&self->z.dev));
		ASSERT_EQ(0, zc_mkdev(&self->z));
		ASSERT_EQ(0, tzc_control(&self->z.dev, "%s", cases[i].control));
		EXPECT_EQ(cases[i].in_place, ATTR("zero_copy_in_place")) {
			TH_LOG("%s", cases[i].control);
		}
	}
}

/* Alone, it needs no range, and a handler finds what it always had. */
TEST_F(zc_config, in_place_alone_maps_nothing)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	struct zc *z = &self->z;
	struct tzc_counters c;
	char *buf;

	o.zero_copy = 0;
	o.in_place = 1;
	ASSERT_EQ(0, tzc_configure(&z->dev, &o));
	ASSERT_EQ(0, zc_start(z, "ram", 0));
	EXPECT_EQ(TZC_RING_BYTES + 16 * MB, z->dev.map_size);
	EXPECT_FALSE(z->srv.ring.mb->flags & TCMU_MAILBOX_FLAG_CAP_ZERO_COPY);
	EXPECT_EQ(0, ATTR("zero_copy"));
	EXPECT_EQ(1, ATTR("zero_copy_in_place"));
	buf = mem_get(MEM_ANON, MB);
	ASSERT_NE(NULL, buf);
	fill(buf, MB, 1);
	ASSERT_EQ(MB, do_rw(z->fd, TZC_WRITE, buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, MB, 1));
	c = zc_count(z);
	EXPECT_EQ(MB, c.copied_bytes);
	EXPECT_EQ(0, c.mapped_cmds + c.faults + c.ahead + c.pages + c.unmaps);
}

TEST_F(zc_config, threshold_changes_any_time)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	ASSERT_EQ(0, tzc_enable(&self->z.dev));
	EXPECT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy_min_bytes", "0"));
	EXPECT_EQ(0, ATTR("zero_copy_min_bytes"));
	EXPECT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy_min_bytes",
				  "1048576"));
	EXPECT_EQ(1048576, ATTR("zero_copy_min_bytes"));
}

TEST_F(zc_config, counters_start_at_zero_and_are_read_only)
{
	static const char zero[sizeof(struct tzc_counters)];
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	struct tzc_counters c;

	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	ASSERT_EQ(0, tzc_enable(&self->z.dev));
	ASSERT_EQ(0, tzc_counters(&self->z.dev, &c));
	EXPECT_EQ(0, memcmp(&c, zero, sizeof(c)));
	EXPECT_NE(0, tzc_counter_set(&self->z.dev, "mapped_cmds", "1"));
	EXPECT_NE(0, tzc_counter_set(&self->z.dev, "faults", "1"));
}

TEST_F(zc_config, map_layout_with_zero_copy)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	struct tzc_ring r;
	char path[64];
	void *p;
	int fd;

	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	ASSERT_EQ(0, tzc_enable(&self->z.dev));
	EXPECT_EQ(TZC_RING_BYTES + 16 * MB + TZC_RANGE_BYTES,
		  self->z.dev.map_size);

	ASSERT_EQ(0, tzc_ring_open(&r, &self->z.dev));
	EXPECT_TRUE(r.mb->flags & TCMU_MAILBOX_FLAG_CAP_ZERO_COPY);
	EXPECT_EQ(TCMU_MAILBOX_VERSION, r.mb->version);
	tzc_ring_close(&r);

	snprintf(path, sizeof(path), "/dev/%s", self->z.dev.uio);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	/* A private copy could never be taken back at completion. */
	p = mmap(NULL, self->z.dev.map_size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE, fd, 0);
	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_EQ(EINVAL, errno);
	p = mmap(NULL, TZC_RING_BYTES + 16 * MB, PROT_READ | PROT_WRITE,
		 MAP_SHARED, fd, 0);
	EXPECT_EQ(MAP_FAILED, p);
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

/* Every field of the ring as an unmodified kernel writes it. */
TEST_F(zc_config, off_is_identical_to_stock)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	struct zc *z = &self->z;
	struct tcmu_cmd_entry *ent;
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct zc_io io;
	size_t len;
	char *buf;
	void *p;

	ASSERT_EQ(0, tzc_destroy(&z->dev));
	o.zero_copy = 0;
	ASSERT_EQ(0, zc_up(z, &o));
	EXPECT_EQ(TZC_RING_BYTES + 16 * MB, z->dev.map_size);
	EXPECT_EQ(TCMU_MAILBOX_FLAG_CAP_OOOC | TCMU_MAILBOX_FLAG_CAP_READ_LEN |
		  TCMU_MAILBOX_FLAG_CAP_TMR | TCMU_MAILBOX_FLAG_CAP_KEEP_BUF,
		  z->srv.ring.mb->flags);
	EXPECT_EQ(sizeof(struct tcmu_mailbox), z->srv.ring.mb->cmdr_off);
	EXPECT_EQ(TZC_RING_BYTES - sizeof(struct tcmu_mailbox),
		  z->srv.ring.mb->cmdr_size);
	/* Stock tcmu allows it. */
	p = mmap(NULL, z->dev.map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
		 z->srv.ring.fd, 0);
	EXPECT_NE(MAP_FAILED, p);

	tzc_srv_stop(&z->srv);
	buf = mem_get(MEM_ANON, 64 * KB);
	ASSERT_NE(NULL, buf);
	fill(buf, 64 * KB, 1);
	io = (struct zc_io){ .fd = z->fd, .dir = TZC_WRITE, .buf = buf,
			     .len = 64 * KB, .off = T_OFF };
	ASSERT_EQ(0, zc_io_start(&io));
	cmd = zc_wait(z);
	ASSERT_NE(NULL, cmd);
	ent = cmd->ent;
	EXPECT_EQ(0, ent->hdr.kflags);
	EXPECT_EQ(0, ent->hdr.uflags);
	EXPECT_EQ(0, ent->req.iov_bidi_cnt);
	EXPECT_EQ(0, ent->req.iov_dif_cnt);
	len = offsetof(struct tcmu_cmd_entry, req.iov[cmd->iov_cnt]);
	if (len < sizeof(*ent))
		len = sizeof(*ent);
	EXPECT_EQ((char *)ent - z->srv.ring.map + len, ent->req.cdb_off);
	/* CDBs of 10 bytes take 16. */
	EXPECT_EQ(len + 16, tcmu_hdr_get_len(ent->hdr.len_op));
	EXPECT_LE(TZC_RING_BYTES, zc_map_off(z, cmd->iov[0].iov_base));
	zc_serve(z, cmd);
	EXPECT_EQ(64 * KB, zc_io_wait(&io));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, 64 * KB, 1));

	c = zc_count(z);
	EXPECT_EQ(0, c.mapped_cmds);
	EXPECT_EQ(1, c.copied_cmds);
	EXPECT_EQ(64 * KB, c.copied_bytes);
	/* Reasons are counted where there was a choice. */
	EXPECT_EQ(0, c.small + c.layout + c.page + c.space);
	EXPECT_EQ(0, c.faults + c.ahead + c.pages + c.unmaps);
}

TZC_MAIN(TZC_NEED_MAPPED)
