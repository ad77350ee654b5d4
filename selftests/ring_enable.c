// SPDX-License-Identifier: GPL-2.0
/*
 * ring_enable: If a device can't be enabled, a handler that has opened it
 * meanwhile keeps what it has mapped, and nobody waits forever for userspace.
 */
#include "zc_test.h"
#include <linux/genetlink.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define PARAM "/sys/module/target_core_user/parameters/"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

FIXTURE(ring_enable) {
	struct zc z;
	int nl;			/* generic netlink */
	int events;		/* a socket that gets tcmu's events */
	int family;		/* of tcmu */
	uint32_t group;		/* of its events */
	char timeout[16];	/* netlink_timeout, if there is one */
	pthread_t thr;
	bool enabling;
	int ret;		/* of enabling it */
};

struct genl_msg {
	struct nlmsghdr n;
	struct genlmsghdr g;
	char attrs[128];
};

static void genl_init(struct genl_msg *msg, int family, int cmd)
{
	memset(msg, 0, sizeof(*msg));
	msg->n.nlmsg_type = family;
	msg->n.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	msg->n.nlmsg_len = offsetof(struct genl_msg, attrs);
	msg->g.cmd = cmd;
	msg->g.version = 2;
}

static void genl_add(struct genl_msg *msg, int type, const void *data, size_t len)
{
	struct nlattr *a = (void *)msg + msg->n.nlmsg_len;

	a->nla_type = type;
	a->nla_len = NLA_HDRLEN + len;
	memcpy((char *)a + NLA_HDRLEN, data, len);
	msg->n.nlmsg_len += NLA_ALIGN(a->nla_len);
}

/* Send it, and wait for the answer, and for the acknowledgment. */
static int genl_ask(int nl, struct genl_msg *msg, struct genl_msg *answer, size_t max)
{
	char buf[4096];
	struct nlmsghdr *n = (void *)buf;
	ssize_t ret;

	if (send(nl, msg, msg->n.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ret = recv(nl, buf, sizeof(buf), 0);
		if (ret < 0)
			return -errno;
		if (n->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(n))->error;
		if (answer)
			memcpy(answer, buf, (size_t)ret < max ? (size_t)ret : max);
	}
}

/* The value of an attribute among @len bytes of them, or NULL */
static void *attr_find(void *attrs, int len, int type)
{
	struct nlattr *a = attrs;

	while (len >= NLA_HDRLEN && a->nla_len >= NLA_HDRLEN && a->nla_len <= len) {
		if ((a->nla_type & NLA_TYPE_MASK) == type)
			return (char *)a + NLA_HDRLEN;
		len -= NLA_ALIGN(a->nla_len);
		a = (void *)a + NLA_ALIGN(a->nla_len);
	}
	return NULL;
}

static void *genl_find(struct genl_msg *msg, int type)
{
	return attr_find(msg->attrs,
			 msg->n.nlmsg_len - offsetof(struct genl_msg, attrs), type);
}

/* tcmu's family; its multicast group goes to @group. */
static int find_family(int nl, uint32_t *group)
{
	char answer[4096] = "";
	struct genl_msg msg;
	struct nlattr *first;
	uint16_t *family;
	uint32_t *id;
	int ret;

	genl_init(&msg, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	genl_add(&msg, CTRL_ATTR_FAMILY_NAME, "TCM-USER", sizeof("TCM-USER"));
	ret = genl_ask(nl, &msg, (void *)answer, sizeof(answer));
	if (ret)
		return ret;
	family = genl_find((void *)answer, CTRL_ATTR_FAMILY_ID);
	first = genl_find((void *)answer, CTRL_ATTR_MCAST_GROUPS);
	if (!family || !first)
		return -ENOENT;
	id = attr_find((char *)first + NLA_HDRLEN, first->nla_len - NLA_HDRLEN,
		       CTRL_ATTR_MCAST_GRP_ID);
	if (!id)
		return -ENOENT;
	*group = *id;
	return *family;
}

/* Whether the kernel waits for answers to its events */
static int set_replies(int nl, int family, uint8_t on)
{
	struct genl_msg msg;

	genl_init(&msg, family, TCMU_CMD_SET_FEATURES);
	genl_add(&msg, TCMU_ATTR_SUPP_KERN_CMD_REPLY, &on, sizeof(on));
	return genl_ask(nl, &msg, NULL, 0);
}

/* A socket that gets tcmu's events, or a negative errno */
static int listen_to(FIXTURE_DATA(ring_enable) *self)
{
	const struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	/* An unbound socket has port 0, as the kernel has, and would get no events. */
	if (fd < 0 || bind(fd, (void *)&addr, sizeof(addr)) ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &self->group,
		       sizeof(self->group)))
		return -errno;
	return fd;
}

/* The device id in the next event, or an error if that isn't a @cmd event */
static int next_event(FIXTURE_DATA(ring_enable) *self, int cmd)
{
	char buf[4096] = "";
	struct genl_msg *msg = (void *)buf;
	uint32_t *id;

	if (recv(self->events, buf, sizeof(buf), 0) < 0)
		return -errno;
	id = genl_find(msg, TCMU_ATTR_DEVICE_ID);
	return id && msg->g.cmd == cmd ? (int)*id : -ENOMSG;
}

static int answer(FIXTURE_DATA(ring_enable) *self, int cmd, uint32_t id, int32_t status)
{
	struct genl_msg msg;

	genl_init(&msg, self->family, cmd);
	genl_add(&msg, TCMU_ATTR_CMD_STATUS, &status, sizeof(status));
	genl_add(&msg, TCMU_ATTR_DEVICE_ID, &id, sizeof(id));
	return genl_ask(self->nl, &msg, NULL, 0);
}

static bool enabled(void *arg)
{
	FIXTURE_DATA(ring_enable) *self = arg;

	return !pthread_tryjoin_np(self->thr, NULL);
}

/* It waits for an answer, which never comes: make it give up. */
static bool failed(void *arg)
{
	tzc_write_file(PARAM "block_netlink", "1");
	tzc_write_file(PARAM "reset_netlink", "1");
	return enabled(arg);
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
	self->family = find_family(self->nl, &self->group);
	ASSERT_LT(0, self->family);
	self->events = listen_to(self);
	ASSERT_LE(0, self->events);
	ASSERT_EQ(0, setsockopt(self->events, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	tzc_read_file(PARAM "netlink_timeout", self->timeout, sizeof(self->timeout));
	ASSERT_EQ(0, set_replies(self->nl, self->family, 1));
}

FIXTURE_TEARDOWN(ring_enable)
{
	if (self->enabling)
		EXPECT_EQ(0, tzc_wait_for(failed, self, SOON));
	EXPECT_EQ(0, tzc_write_file(PARAM "block_netlink", "0"));
	EXPECT_EQ(0, set_replies(self->nl, self->family, 0));
	if (*self->timeout)
		EXPECT_EQ(0, tzc_write_file(PARAM "netlink_timeout", "%s", self->timeout));
	close(self->events);
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

/* The thread that enables the device ends by itself. */
static void ends(struct __test_metadata *_metadata, FIXTURE_DATA(ring_enable) *self)
{
	ASSERT_EQ(0, tzc_wait_for(enabled, self, SOON));
	self->enabling = false;
}

/* Enabling the device again works, even if somebody broke its ring meanwhile. */
TEST_F(ring_enable, fails_and_works_later)
{
	struct tzc_ring ring;

	begin(_metadata, self);
	ASSERT_EQ(0, tzc_ring_open(&ring, &self->z.dev));
	ring.mb->cmd_tail = 8;
	EXPECT_EQ(0, tzc_notify(&ring));
	tzc_ring_close(&ring);
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

/*
 * The device was opened by a node in another file system, which is unmounted
 * before the device is deleted. The kernel complains if an inode is left then.
 */
TEST_F(ring_enable, fails_while_open)
{
	const struct tzc_opts o = TZC_OPTS_STOCK;
	struct zc *z = &self->z;
	char path[64];
	struct stat st;
	int mapped, fd;
	void *map;

	for (mapped = 0; mapped < 2; mapped++) {
		char dir[] = "/tmp/tzc.XXXXXX";

		begin(_metadata, self);
		snprintf(path, sizeof(path), "/dev/%s", z->dev.uio);
		ASSERT_EQ(0, stat(path, &st));
		ASSERT_NE(NULL, mkdtemp(dir));
		ASSERT_EQ(0, mount("none", dir, "tmpfs", 0, NULL));
		snprintf(path, sizeof(path), "%s/uio", dir);
		ASSERT_EQ(0, mknod(path, S_IFCHR | 0600, st.st_rdev));
		fd = open(path, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		if (mapped) {
			map = mmap(NULL, z->dev.map_size, PROT_READ, MAP_SHARED,
				   fd, 0);
			ASSERT_NE(MAP_FAILED, map);
			EXPECT_EQ(0, probe_read(map));
		}
		give_up(_metadata, self);
		if (mapped)
			ASSERT_EQ(0, munmap(map, z->dev.map_size));
		ASSERT_EQ(0, close(fd));
		EXPECT_EQ(0, umount(dir));
		EXPECT_EQ(0, rmdir(dir));
		EXPECT_EQ(0, tzc_destroy(&z->dev));
		ASSERT_EQ(0, zc_mkdev(z));
		ASSERT_EQ(0, tzc_configure(&z->dev, &o));
	}
}

static bool is_gone(void *pid)
{
	return waitpid(*(pid_t *)pid, NULL, WNOHANG) != 0;
}

TEST_F(ring_enable, killed_while_waiting)
{
	pid_t pid = fork();
	int id;

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(enable(&self->z) != 0);
	id = next_event(self, TCMU_CMD_ADDED_DEVICE);
	EXPECT_LE(0, id);
	kill(pid, SIGKILL);
	ASSERT_EQ(0, tzc_wait_for(is_gone, &pid, SOON));
	/* A handler may have opened it, so it is announced as removed. */
	EXPECT_EQ(id, next_event(self, TCMU_CMD_REMOVED_DEVICE));
	EXPECT_EQ(-ENODEV, answer(self, TCMU_CMD_ADDED_DEVICE_DONE, id, 0));

	ASSERT_EQ(0, set_replies(self->nl, self->family, 0));
	EXPECT_EQ(0, zc_start(&self->z, "ram", 0));
	EXPECT_EQ(0, zc_down(&self->z));
	ASSERT_EQ(0, zc_mkdev(&self->z));
}

TEST_F(ring_enable, no_answer_in_time)
{
	struct zc *z = &self->z;
	int id;

	ASSERT_EQ(0, tzc_write_file(PARAM "netlink_timeout", "1"));
	begin(_metadata, self);
	id = next_event(self, TCMU_CMD_ADDED_DEVICE);
	EXPECT_LE(0, id);
	ends(_metadata, self);
	EXPECT_EQ(-ETIMEDOUT, self->ret);
	EXPECT_EQ(id, next_event(self, TCMU_CMD_REMOVED_DEVICE));

	/* Removing the device works even if nobody answers. */
	ASSERT_EQ(0, set_replies(self->nl, self->family, 0));
	ASSERT_EQ(0, enable(z));
	id = next_event(self, TCMU_CMD_ADDED_DEVICE);
	EXPECT_LE(0, id);
	ASSERT_EQ(0, set_replies(self->nl, self->family, 1));
	EXPECT_EQ(0, tzc_attr_set(&z->dev, "nl_reply_supported", "1"));
	EXPECT_EQ(0, tzc_destroy(&z->dev));
	EXPECT_EQ(id, next_event(self, TCMU_CMD_REMOVED_DEVICE));
	ASSERT_EQ(0, zc_mkdev(z));
}

static void *change_thread(void *arg)
{
	FIXTURE_DATA(ring_enable) *self = arg;

	self->ret = tzc_attr_set(&self->z.dev, "dev_size", "134217728");
	return NULL;
}

/* What comes too late for one change isn't the answer to the next one. */
TEST_F(ring_enable, late_answer)
{
	struct tzc_dev *d = &self->z.dev;
	int id;

	ASSERT_EQ(0, tzc_write_file(PARAM "netlink_timeout", "1"));
	ASSERT_EQ(0, set_replies(self->nl, self->family, 0));
	ASSERT_EQ(0, enable(&self->z));
	id = next_event(self, TCMU_CMD_ADDED_DEVICE);
	ASSERT_LE(0, id);
	ASSERT_EQ(0, set_replies(self->nl, self->family, 1));
	ASSERT_EQ(0, tzc_attr_set(d, "nl_reply_supported", "1"));

	EXPECT_EQ(-ETIMEDOUT, tzc_attr_set(d, "dev_size", "67108864"));
	EXPECT_EQ(id, next_event(self, TCMU_CMD_RECONFIG_DEVICE));
	EXPECT_EQ(-EBUSY, tzc_attr_set(d, "dev_size", "134217728"));
	EXPECT_EQ(0, answer(self, TCMU_CMD_RECONFIG_DEVICE_DONE, id, 0));
	EXPECT_EQ(-ENODEV, answer(self, TCMU_CMD_RECONFIG_DEVICE_DONE, id, 0));

	/* Now the next one has its turn, and its own answer. */
	ASSERT_EQ(0, tzc_write_file(PARAM "netlink_timeout", "0"));
	ASSERT_EQ(0, pthread_create(&self->thr, NULL, change_thread, self));
	EXPECT_EQ(id, next_event(self, TCMU_CMD_RECONFIG_DEVICE));
	EXPECT_EQ(0, answer(self, TCMU_CMD_RECONFIG_DEVICE_DONE, id, 0));
	ASSERT_EQ(0, tzc_wait_for(enabled, self, SOON));
	EXPECT_EQ(0, self->ret);

	/* Deleting the device also ends the wait for a late answer. */
	ASSERT_EQ(0, tzc_write_file(PARAM "netlink_timeout", "1"));
	EXPECT_EQ(-ETIMEDOUT, tzc_attr_set(d, "dev_size", "67108864"));
	EXPECT_EQ(0, tzc_destroy(d));
	EXPECT_EQ(-ENODEV, answer(self, TCMU_CMD_RECONFIG_DEVICE_DONE, id, 0));
	ASSERT_EQ(0, zc_mkdev(&self->z));
}

TEST_F(ring_enable, positive_status)
{
	int id;

	begin(_metadata, self);
	id = next_event(self, TCMU_CMD_ADDED_DEVICE);
	ASSERT_LE(0, id);
	EXPECT_EQ(0, answer(self, TCMU_CMD_ADDED_DEVICE_DONE, id, 1));
	ends(_metadata, self);
	EXPECT_EQ(-EINVAL, self->ret);
}

/* Somebody else listens, and doesn't read. */
TEST_F(ring_enable, listener_is_full)
{
	struct tzc_dev *d = &self->z.dev;
	int fd, n, on = 1, size = 1;

	fd = listen_to(self);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
	ASSERT_EQ(0, setsockopt(fd, SOL_NETLINK, NETLINK_BROADCAST_ERROR, &on,
				sizeof(on)));
	ASSERT_EQ(0, set_replies(self->nl, self->family, 0));
	ASSERT_EQ(0, enable(&self->z));
	for (n = 0; n < 16; n++)
		EXPECT_EQ(0, tzc_attr_set(d, "dev_size", "134217728"));
	close(fd);
}

/* The second write to enable is refused, and the first one still succeeds. */
TEST_F(ring_enable, enabled_twice)
{
	int id;

	begin(_metadata, self);
	id = next_event(self, TCMU_CMD_ADDED_DEVICE);
	ASSERT_LE(0, id);
	EXPECT_EQ(-EEXIST, enable(&self->z));
	EXPECT_EQ(0, answer(self, TCMU_CMD_ADDED_DEVICE_DONE, id, 0));
	ends(_metadata, self);
	EXPECT_EQ(0, self->ret);
	EXPECT_EQ(-EEXIST, enable(&self->z));
}

TEST_F(ring_enable, wrong_answer)
{
	int id;

	begin(_metadata, self);
	id = next_event(self, TCMU_CMD_ADDED_DEVICE);
	ASSERT_LE(0, id);
	EXPECT_EQ(-EINVAL, answer(self, TCMU_CMD_REMOVED_DEVICE_DONE, id, 0));
	EXPECT_EQ(0, answer(self, TCMU_CMD_ADDED_DEVICE_DONE, id, 0));
	ends(_metadata, self);
	EXPECT_EQ(0, self->ret);
}

TZC_MAIN(0)
