// SPDX-License-Identifier: GPL-2.0
/* tcmu devices and loopback LUNs by configfs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libtcmuzc.h"

#define TARGET		"/sys/kernel/config/target"
#define HBA		TARGET "/core/user_0"
#define LOOPBACK	TARGET "/loopback"
#define ISCSI		TARGET "/iscsi"
/* Below the device's directory. */
#define COUNTERS	"statistics/tcmu"

uint64_t tzc_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

int tzc_wait_for(bool (*cond)(void *arg), void *arg, int timeout_ms)
{
	uint64_t end = tzc_now_ms() + timeout_ms;

	while (!cond(arg)) {
		if (tzc_now_ms() > end)
			return -ETIMEDOUT;
		usleep(5000);
	}
	return 0;
}

int tzc_write_file(const char *path, const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	int fd, len, ret = 0;

	va_start(ap, fmt);
	len = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, buf, len) != len)
		ret = errno ? -errno : -EIO;
	close(fd);
	return ret;
}

int tzc_read_file(const char *path, char *buf, size_t len)
{
	int fd, ret;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = read(fd, buf, len - 1);
	if (ret < 0)
		ret = -errno;
	close(fd);
	if (ret < 0)
		return ret;
	while (ret && buf[ret - 1] == '\n')
		ret--;
	buf[ret] = 0;
	return ret;
}

/* mkdir -p would create what the kernel should have: one level only. */
static int make_dir(const char *path)
{
	if (mkdir(path, 0755) && errno != EEXIST)
		return -errno;
	return 0;
}

static int prepare_configfs(void)
{
	struct stat st;
	int ret;

	if (stat(TARGET, &st))
		return -errno;
	ret = make_dir(HBA);
	return ret ?: make_dir(LOOPBACK);
}

int tzc_mkdev(struct tzc_dev *d, const char *name)
{
	int ret;

	memset(d, 0, sizeof(*d));
	snprintf(d->name, sizeof(d->name), "%s", name);
	snprintf(d->dir, sizeof(d->dir), HBA "/%s", d->name);
	ret = prepare_configfs();
	if (ret)
		return ret;
	if (mkdir(d->dir, 0755))
		return -errno;
	return 0;
}

bool tzc_kernel_has(const char *attr)
{
	struct tzc_dev d;
	long long val;
	bool has;

	if (tzc_mkdev(&d, "tzc-probe"))
		return false;
	has = !tzc_attr_get(&d, attr, &val);
	rmdir(d.dir);
	return has;
}

/* NULL, or what modprobe says. */
static const char *load_module(const char *name)
{
	static char msg[256];
	char cmd[128];
	int status;
	FILE *f;

	snprintf(cmd, sizeof(cmd), "modprobe %s 2>&1", name);
	f = popen(cmd, "r");
	if (!f)
		return "modprobe can't be run";
	if (!fgets(msg, sizeof(msg), f))
		snprintf(msg, sizeof(msg), "modprobe %s failed", name);
	msg[strcspn(msg, "\n")] = 0;
	status = pclose(f);
	return status ? msg : NULL;
}

const char *tzc_missing(unsigned int needs)
{
	static char why[512];
	const char *msg;

	if (geteuid())
		return "needs root";
	if (access("/sys/module/target_core_user", F_OK)) {
		msg = load_module("target_core_user");
		if (msg) {
			snprintf(why, sizeof(why),
				 "no tcmu in this kernel (CONFIG_TCM_USER2): %s",
				 msg);
			return why;
		}
	}
	if (access("/sys/kernel/config/target", F_OK) &&
	    mount("configfs", "/sys/kernel/config", "configfs", 0, NULL) &&
	    errno != EBUSY)
		return "configfs can't be mounted (CONFIG_CONFIGFS_FS)";
	if (access(TARGET, F_OK))
		return "no /sys/kernel/config/target";
	if (make_dir(LOOPBACK)) {
		msg = load_module("tcm_loop");
		if (msg || make_dir(LOOPBACK)) {
			snprintf(why, sizeof(why),
				 "no loopback target (CONFIG_LOOPBACK_TARGET): %s",
				 msg ?: "its directory can't be made");
			return why;
		}
	}
	if ((needs & TZC_NEED_ISCSI) && make_dir(ISCSI)) {
		msg = load_module("iscsi_target_mod");
		if (msg || make_dir(ISCSI)) {
			snprintf(why, sizeof(why),
				 "no iSCSI target (CONFIG_ISCSI_TARGET): %s",
				 msg ?: "its directory can't be made");
			return why;
		}
	}
	if ((needs & TZC_NEED_IN_PLACE) && !tzc_kernel_has("zero_copy_in_place"))
		return "this kernel's tcmu has no zero_copy_in_place";
	if ((needs & TZC_NEED_MAPPED) && !tzc_kernel_has("zero_copy"))
		return "this kernel's tcmu has no zero_copy";
	return NULL;
}

int tzc_configure(struct tzc_dev *d, const struct tzc_opts *o)
{
	char buf[512];
	int n;

	d->opts = *o;
	n = snprintf(buf, sizeof(buf),
		     "dev_size=%llu,hw_block_size=%d,hw_max_sectors=%d,max_data_area_mb=%d,dev_config=%s",
		     (unsigned long long)o->size, TZC_SECTOR, o->max_sectors,
		     o->area_mb, d->name);
	if (o->zero_copy >= 0)
		n += snprintf(buf + n, sizeof(buf) - n, ",zero_copy=%d",
			      o->zero_copy);
	if (o->in_place >= 0)
		n += snprintf(buf + n, sizeof(buf) - n,
			      ",zero_copy_in_place=%d", o->in_place);
	if (o->min_bytes >= 0)
		n += snprintf(buf + n, sizeof(buf) - n,
			      ",zero_copy_min_bytes=%ld", o->min_bytes);
	if (o->ring_mb)
		n += snprintf(buf + n, sizeof(buf) - n, ",cmd_ring_size_mb=%d",
			      o->ring_mb);
	if (o->blk_pages)
		snprintf(buf + n, sizeof(buf) - n, ",data_pages_per_blk=%d",
			 o->blk_pages);
	return tzc_control(d, "%s", buf);
}

/* tcmu names its uio device tcm-user/HBA/NAME/CONFIG. */
static int find_uio(struct tzc_dev *d)
{
	char want[128], path[320], buf[256];
	struct dirent *e;
	int ret = -ENODEV;
	DIR *dir;

	dir = opendir("/sys/class/uio");
	if (!dir)
		return -errno;
	snprintf(want, sizeof(want), "tcm-user/0/%s/", d->name);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/class/uio/%s/name", e->d_name);
		if (tzc_read_file(path, buf, sizeof(buf)) < 0)
			continue;
		if (strncmp(buf, want, strlen(want)))
			continue;
		snprintf(d->uio, sizeof(d->uio), "%.31s", e->d_name);
		snprintf(path, sizeof(path), "/sys/class/uio/%s/maps/map0/size",
			 d->uio);
		if (tzc_read_file(path, buf, sizeof(buf)) > 0) {
			d->map_size = strtoull(buf, NULL, 0);
			ret = 0;
		}
		break;
	}
	closedir(dir);
	return ret;
}

bool tzc_have_uio_node(void *arg)
{
	struct tzc_dev *d = arg;
	char path[64];

	if (find_uio(d))
		return false;
	snprintf(path, sizeof(path), "/dev/%s", d->uio);
	return !access(path, F_OK);
}

int tzc_enable(struct tzc_dev *d)
{
	char path[192];
	int ret;

	/* There is no netlink listener that could answer. */
	ret = tzc_attr_set(d, "nl_reply_supported", "-1");
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "%s/enable", d->dir);
	ret = tzc_write_file(path, "1");
	if (ret)
		return ret;
	/* cmd_time_out can't be changed once there is a LUN. */
	if (d->opts.time_out >= 0) {
		char val[16];

		snprintf(val, sizeof(val), "%d", d->opts.time_out);
		ret = tzc_attr_set(d, "cmd_time_out", val);
		if (ret)
			return ret;
	}
	return tzc_wait_for(tzc_have_uio_node, d, 5000);
}

int tzc_create(struct tzc_dev *d, const char *name, const struct tzc_opts *o)
{
	int ret;

	ret = tzc_mkdev(d, name);
	if (ret)
		return ret;
	ret = tzc_configure(d, o);
	if (!ret)
		ret = tzc_enable(d);
	if (ret)
		tzc_destroy(d);
	return ret;
}

/* --- loopback ------------------------------------------------------ */

void tzc_tpg_path(struct tzc_dev *d, char *buf, size_t len, const char *file)
{
	snprintf(buf, len, LOOPBACK "/%s/tpgt_1%s", d->wwn, file);
}

static bool have_disk(void *arg)
{
	struct tzc_dev *d = arg;
	char path[256], addr[64], node[64];
	struct dirent *e;
	DIR *dir;
	int fd;

	tzc_tpg_path(d, path, sizeof(path), "/address");
	if (tzc_read_file(path, addr, sizeof(addr)) <= 0)
		return false;
	snprintf(path, sizeof(path), "/sys/class/scsi_device/%s:0/device/block",
		 addr);
	dir = opendir(path);
	if (!dir)
		return false;
	d->sd[0] = 0;
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			snprintf(d->sd, sizeof(d->sd), "%.31s", e->d_name);
	closedir(dir);
	if (!d->sd[0])
		return false;
	/* open() waits for the partition scan to be over. */
	snprintf(node, sizeof(node), "/dev/%s", d->sd);
	fd = open(node, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int set_queue(struct tzc_dev *d, const char *file, const char *val)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/%s", d->sd, file);
	return tzc_write_file(path, "%s", val);
}

int tzc_add_lun(struct tzc_dev *d)
{
	char path[256], link[300];
	unsigned int hash = 5381;
	const char *c;
	int ret;

	for (c = d->name; *c; c++)
		hash = hash * 33 + *c;
	snprintf(d->wwn, sizeof(d->wwn), "naa.60014050%08x", hash);

	snprintf(path, sizeof(path), LOOPBACK "/%s", d->wwn);
	ret = make_dir(path);
	if (ret)
		return ret;
	tzc_tpg_path(d, path, sizeof(path), "");
	ret = make_dir(path);
	if (ret)
		return ret;
	tzc_tpg_path(d, path, sizeof(path), "/nexus");
	ret = tzc_write_file(path, "naa.60014051%08x", hash);
	if (ret)
		return ret;
	tzc_tpg_path(d, path, sizeof(path), "/lun/lun_0");
	ret = make_dir(path);
	if (ret)
		return ret;
	snprintf(link, sizeof(link), "%s/tzc", path);
	return symlink(d->dir, link) ? -errno : 0;
}

int tzc_export(struct tzc_dev *d)
{
	char path[256], buf[32];
	int ret;

	ret = tzc_add_lun(d);
	if (ret)
		return ret;
	ret = tzc_wait_for(have_disk, d, 20000);
	if (ret)
		return ret;
	/* One request of the test is to be one command of the handler. */
	set_queue(d, "scheduler", "none");
	set_queue(d, "nomerges", "2");
	snprintf(path, sizeof(path), "/sys/block/%s/queue/max_hw_sectors_kb",
		 d->sd);
	if (tzc_read_file(path, buf, sizeof(buf)) > 0)
		set_queue(d, "max_sectors_kb", buf);
	return 0;
}

static int remove_lun(struct tzc_dev *d)
{
	char path[256];

	tzc_tpg_path(d, path, sizeof(path), "/lun/lun_0/tzc");
	if (unlink(path) && errno != ENOENT)
		return -errno;
	tzc_tpg_path(d, path, sizeof(path), "/lun/lun_0");
	if (rmdir(path) && errno != ENOENT)
		return -errno;
	tzc_tpg_path(d, path, sizeof(path), "");
	if (rmdir(path) && errno != ENOENT)
		return -errno;
	snprintf(path, sizeof(path), LOOPBACK "/%s", d->wwn);
	if (rmdir(path) && errno != ENOENT)
		return -errno;
	return 0;
}

/*
 * Removing a LUN waits for its commands. Fail those that nobody answers, but
 * don't mistake a slow machine's server for nobody: a reset takes away what
 * the test may be looking at.
 */
int tzc_unexport(struct tzc_dev *d)
{
	uint64_t start = tzc_now_ms(), patience = d->served ? 15000 : 500;
	int status, ret;
	pid_t pid;

	if (!d->wwn[0])
		return 0;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(-remove_lun(d));
	while (!(ret = waitpid(pid, &status, WNOHANG))) {
		uint64_t t = tzc_now_ms() - start;

		if (t > 30000) {
			kill(pid, SIGKILL);
			return -ETIMEDOUT;
		}
		if (t > patience)
			tzc_action(d, "reset_ring", 2);
		usleep(t < 500 ? 2000 : 50000);
	}
	if (ret < 0)
		return -errno;
	d->sd[0] = 0;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

int tzc_destroy(struct tzc_dev *d)
{
	int ret;

	if (!d->dir[0])
		return 0;
	ret = tzc_unexport(d);
	if (ret)
		return ret;
	if (rmdir(d->dir))
		return errno == ENOENT ? 0 : -errno;
	d->dir[0] = 0;
	return 0;
}

int tzc_cleanup(const char *prefix)
{
	struct tzc_dev d;
	struct dirent *e;
	int ret = 0;
	DIR *dir;

	dir = opendir(HBA);
	if (!dir)
		return 0;
	while ((e = readdir(dir))) {
		unsigned int hash = 5381;
		char path[192], val[8];
		const char *c;
		int err;

		if (strncmp(e->d_name, prefix, strlen(prefix)))
			continue;
		memset(&d, 0, sizeof(d));
		snprintf(d.name, sizeof(d.name), "%.39s", e->d_name);
		snprintf(d.dir, sizeof(d.dir), HBA "/%s", d.name);
		for (c = d.name; *c; c++)
			hash = hash * 33 + *c;
		snprintf(d.wwn, sizeof(d.wwn), "naa.60014050%08x", hash);
		snprintf(path, sizeof(path), "%s/enable", d.dir);
		if (tzc_read_file(path, val, sizeof(val)) > 0 && val[0] == '1')
			tzc_action(&d, "reset_ring", 2);
		err = tzc_destroy(&d);
		ret = ret ?: err;
	}
	closedir(dir);
	return ret;
}

/* --- attributes ---------------------------------------------------- */

int tzc_attr_get(struct tzc_dev *d, const char *attr, long long *val)
{
	char path[192], buf[64];
	int ret;

	snprintf(path, sizeof(path), "%s/attrib/%s", d->dir, attr);
	ret = tzc_read_file(path, buf, sizeof(buf));
	if (ret < 0)
		return ret;
	*val = strtoll(buf, NULL, 0);
	return 0;
}

int tzc_attr_set(struct tzc_dev *d, const char *attr, const char *val)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/attrib/%s", d->dir, attr);
	return tzc_write_file(path, "%s", val);
}

int tzc_control(struct tzc_dev *d, const char *fmt, ...)
{
	char path[192], buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "%s/control", d->dir);
	return tzc_write_file(path, "%s", buf);
}

int tzc_action(struct tzc_dev *d, const char *action, int val)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/action/%s", d->dir, action);
	return tzc_write_file(path, "%d", val);
}

static const struct {
	const char *name;
	size_t off;
} counters[] = {
#define C(attr, field)	{ attr, offsetof(struct tzc_counters, field) }
	C("inplace_cmds", inplace_cmds),
	C("inplace_bytes", inplace_bytes),
	C("inplace_missed", inplace_missed),
	C("inplace_dropped", inplace_dropped),
	C("mapped_cmds", mapped_cmds),
	C("mapped_bytes", mapped_bytes),
	C("copied_cmds", copied_cmds),
	C("copied_bytes", copied_bytes),
	C("missed_bytes", missed_bytes),
	C("fallback_small", small),
	C("fallback_cdb", cdb),
	C("fallback_layout", layout),
	C("fallback_page", page),
	C("fallback_space", space),
	C("faults", faults),
	C("ahead", ahead),
	C("pages", pages),
	C("kept_cmds", kept_cmds),
	C("unmaps", unmaps),
	C("cleared_pages", cleared_pages),
#undef C
};

static uint64_t *counter(const struct tzc_counters *c, size_t i)
{
	return (uint64_t *)((char *)c + counters[i].off);
}

static void counter_path(struct tzc_dev *d, const char *name, char *buf,
			 size_t len)
{
	snprintf(buf, len, "%s/" COUNTERS "/%s", d->dir, name);
}

int tzc_counters(struct tzc_dev *d, struct tzc_counters *c)
{
	char path[192], buf[32];
	size_t i;
	int ret;

	memset(c, 0, sizeof(*c));
	for (i = 0; i < ARRAY_SIZE(counters); i++) {
		counter_path(d, counters[i].name, path, sizeof(path));
		ret = tzc_read_file(path, buf, sizeof(buf));
		if (ret == -ENOENT)
			continue;
		if (ret < 0)
			return ret;
		*counter(c, i) = strtoull(buf, NULL, 0);
	}
	return 0;
}

int tzc_counter_set(struct tzc_dev *d, const char *name, const char *val)
{
	char path[192];

	counter_path(d, name, path, sizeof(path));
	return tzc_write_file(path, "%s", val);
}

void tzc_counters_sub(struct tzc_counters *c, const struct tzc_counters *old)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counters); i++)
		*counter(c, i) -= *counter(old, i);
}

void tzc_counters_print(FILE *f, const struct tzc_counters *c)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(counters); i++)
		fprintf(f, "%s=%llu\n", counters[i].name,
			(unsigned long long)*counter(c, i));
}
