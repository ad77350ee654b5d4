// SPDX-License-Identifier: GPL-2.0
/*
 * ring_enable: If a device can't be enabled, a handler that has opened it
 * meanwhile keeps what it has mapped.
 */
#include "zc_test.h"
#include <linux/genetlink.h>
#include <sys/socket.h>

#define PARAM "/sys/module/target_core_user/parameters/"

FIXTURE(ring_enable) {
	struct zc z;
	int nl;			/* generic netlink */
	int family;		/* of tcmu */
	pthread_t thr;
	bool enabling;
	int ret;		/* of enabling it */
};

/* A message with one attribute; the answer's payload, without the headers. */
static int genl_ask(int nl, int family, int cmd, int type, const void *data,
		    size_t len, char *answer, size_t max)
{
	struct {
		struct nlmsghdr n;
		struct genlmsghdr g;
		struct nlattr a;
		char data[64];
	} msg = {
		.n.nlmsg_type = family,
		.n.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		.g.cmd = cmd,
		.g.version = 2,
		.a.nla_type = type,
		.a.nla_len = NLA_HDRLEN + len,
	};
	char buf[4096];
	struct nlmsghdr *n = (void *)buf;
	ssize_t ret;

	memcpy(msg.data, data, len);
	msg.n.nlmsg_len = NLMSG_ALIGN(offsetof(typeof(msg), data) + len);
	if (send(nl, &msg, msg.n.nlmsg_len, 0) < 0)
		return -errno;
	/* What was asked for, if anything, and then the acknowledgment */
	for (;;) {
		ret = recv(nl, buf, sizeof(buf), 0);
		if (ret < 0)
			return -errno;
		if (n->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(n))->error;
		if (answer)
			memcpy(answer, (char *)NLMSG_DATA(n) + GENL_HDRLEN,
			       ret - NLMSG_HDRLEN - GENL_HDRLEN < (ssize_t)max ?
			       ret - NLMSG_HDRLEN - GENL_HDRLEN : max);
	}
}

static int find_family(int nl)
{
	char answer[4096] = "";
	struct nlattr *a = (void *)answer;
	int ret;

	ret = genl_ask(nl, GENL_ID_CTRL, CTRL_CMD_GETFAMILY,
		       CTRL_ATTR_FAMILY_NAME, "TCM-USER", sizeof("TCM-USER"),
		       answer, sizeof(answer));
	if (ret)
		return ret;
	while ((char *)a < answer + sizeof(answer) && a->nla_len) {
		if (a->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(uint16_t *)((char *)a + NLA_HDRLEN);
		a = (void *)a + NLA_ALIGN(a->nla_len);
	}
	return -ENOENT;
}

/* Whether the kernel waits for answers to its events */
static int set_replies(int nl, int family, uint8_t on)
{
	return genl_ask(nl, family, TCMU_CMD_SET_FEATURES,
			TCMU_ATTR_SUPP_KERN_CMD_REPLY, &on, sizeof(on), NULL, 0);
}

/* It waits for an answer, which never comes: make it give up. */
static bool failed(void *arg)
{
	FIXTURE_DATA(ring_enable) *self = arg;

	tzc_write_file(PARAM "block_netlink", "1");
	tzc_write_file(PARAM "reset_netlink", "1");
	return !pthread_tryjoin_np(self->thr, NULL);
}

FIXTURE_SETUP(ring_enable)
{
	const struct tzc_opts o = TZC_OPTS_STOCK;
	struct timeval tv = { .tv_sec = 10 };

	ASSERT_EQ(0, zc_mkdev(&self->z));
	ASSERT_EQ(0, tzc_configure(&self->z.dev, &o));
	self->nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	ASSERT_LE(0, self->nl);
	ASSERT_EQ(0, setsockopt(self->nl, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	self->family = find_family(self->nl);
	ASSERT_LT(0, self->family);
	ASSERT_EQ(0, set_replies(self->nl, self->family, 1));
}

FIXTURE_TEARDOWN(ring_enable)
{
	if (self->enabling)
		EXPECT_EQ(0, tzc_wait_for(failed, self, SOON));
	EXPECT_EQ(0, tzc_write_file(PARAM "block_netlink", "0"));
	EXPECT_EQ(0, set_replies(self->nl, self->family, 0));
	close(self->nl);
	EXPECT_EQ(0, tzc_destroy(&self->z.dev));
}

static int enable(struct zc *z)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/enable", z->dev.dir);
	return tzc_write_file(path, "1");
}

static void *enable_thread(void *arg)
{
	FIXTURE_DATA(ring_enable) *self = arg;

	self->ret = enable(&self->z);
	return NULL;
}

static void begin(struct __test_metadata *_metadata,
		  FIXTURE_DATA(ring_enable) *self)
{
	ASSERT_EQ(0, pthread_create(&self->thr, NULL, enable_thread, self));
	self->enabling = true;
	ASSERT_EQ(0, tzc_wait_for(tzc_have_uio_node, &self->z.dev, SOON));
}

static void give_up(struct __test_metadata *_metadata,
		    FIXTURE_DATA(ring_enable) *self)
{
	ASSERT_EQ(0, tzc_wait_for(failed, self, SOON));
	self->enabling = false;
	EXPECT_EQ(0, tzc_write_file(PARAM "block_netlink", "0"));
	EXPECT_GT(0, self->ret);
}

/* Nobody has looked: enabled once more, it works. */
TEST_F(ring_enable, fails_and_works_later)
{
	begin(_metadata, self);
	give_up(_metadata, self);
	ASSERT_EQ(0, set_replies(self->nl, self->family, 0));
	EXPECT_EQ(0, zc_start(&self->z, "ram", 0));
	EXPECT_EQ(0, zc_down(&self->z));
	ASSERT_EQ(0, zc_mkdev(&self->z));
}

TEST_F(ring_enable, fails_while_mapped)
{
	struct zc *z = &self->z;
	struct tzc_ring ring;
	size_t off;

	begin(_metadata, self);
	ASSERT_EQ(0, tzc_ring_open(&ring, &z->dev));
	give_up(_metadata, self);

	/* Pages of the ring that were not touched before, and then no more */
	for (off = 0; off < TZC_RING_BYTES; off += PG)
		EXPECT_EQ(0, probe_read(ring.map + off));
	EXPECT_EQ(TCMU_MAILBOX_VERSION, ring.mb->version);
	EXPECT_EQ(SIGBUS, probe_read(ring.map + TZC_RING_BYTES));
	EXPECT_NE(0, tzc_notify(&ring));

	EXPECT_EQ(-EBUSY, enable(z));
	EXPECT_EQ(0, probe_read(ring.map));
	/* The device goes first, and then what is left of it. */
	EXPECT_EQ(0, tzc_destroy(&z->dev));
	EXPECT_EQ(0, probe_read(ring.map + TZC_RING_BYTES / 2));
	tzc_ring_close(&ring);
	ASSERT_EQ(0, zc_mkdev(z));
}

TZC_MAIN(0)
