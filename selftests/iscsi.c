// SPDX-License-Identifier: GPL-2.0
/*
 * An iSCSI target on the loopback interface, and an initiator (libiscsi) that
 * does what others don't.
 */
#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "iscsi.h"

#define PORTAL	"127.0.0.1:3265"
#define TARGET	"/sys/kernel/config/target/iscsi/" ISCSI_IQN
#define TPG	ISCSI_TPG
#define LUN	ISCSI_LUN

static int make_dir(const char *path)
{
	return mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
}

int iscsi_target_up(struct tzc_dev *d)
{
	int ret = 0;

	ret = ret ?: make_dir("/sys/kernel/config/target/iscsi");
	ret = ret ?: make_dir(TARGET);
	ret = ret ?: make_dir(TPG);
	ret = ret ?: tzc_write_file(TPG "/attrib/authentication", "0");
	ret = ret ?: tzc_write_file(TPG "/attrib/generate_node_acls", "1");
	ret = ret ?: tzc_write_file(TPG "/attrib/cache_dynamic_acls", "1");
	ret = ret ?: tzc_write_file(TPG "/attrib/demo_mode_write_protect", "0");
	ret = ret ?: make_dir(TPG "/np/" PORTAL);
	ret = ret ?: make_dir(LUN);
	if (!ret && symlink(d->dir, LUN "/tzc"))
		ret = -errno;
	return ret ?: tzc_write_file(TPG "/enable", "1");
}

void iscsi_target_lun_down(void)
{
	unlink(LUN "/tzc");
	rmdir(LUN);
}

void iscsi_target_down(void)
{
	tzc_write_file(TPG "/enable", "0");
	iscsi_target_lun_down();
	rmdir(TPG "/np/" PORTAL);
	rmdir(TPG);
	rmdir(TARGET);
}

/* --- the initiator ------------------------------------------------- */

void req_done(struct iscsi_context *i, int status, void *data, void *arg)
{
	struct req *req = arg;

	req->done = true;
	req->status = status;
}

struct iscsi_context *session_up(const char *name, unsigned int isid)
{
	struct iscsi_context *i = iscsi_create_context(name);

	if (!i)
		return NULL;
	iscsi_set_isid_oui(i, 0x1405, isid);
	iscsi_set_targetname(i, ISCSI_IQN);
	iscsi_set_session_type(i, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(i, ISCSI_HEADER_DIGEST_NONE);
	/* So that data is sent when it is asked for, that is, by us. */
	iscsi_set_immediate_data(i, ISCSI_IMMEDIATE_DATA_NO);
	iscsi_set_initial_r2t(i, ISCSI_INITIAL_R2T_YES);
	iscsi_set_noautoreconnect(i, 1);
	iscsi_set_timeout(i, 60);
	if (iscsi_full_connect_sync(i, PORTAL, 0)) {
		iscsi_destroy_context(i);
		return NULL;
	}
	return i;
}

void session_reset(struct iscsi_context *i)
{
	struct linger l = { .l_onoff = 1 };

	setsockopt(iscsi_get_fd(i), SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	iscsi_destroy_context(i);
}

void session_down(struct iscsi_context *i)
{
	iscsi_logout_sync(i);
	iscsi_destroy_context(i);
}

int service_ms(struct iscsi_context *i, short events,
	       bool (*cond)(void *), void *arg, int ms)
{
	uint64_t end = tzc_now_ms() + ms;

	while (!cond(arg)) {
		struct pollfd pfd = {
			.fd = iscsi_get_fd(i),
			.events = iscsi_which_events(i) & events,
		};

		if (tzc_now_ms() > end)
			return -ETIMEDOUT;
		poll(&pfd, 1, 10);
		if (iscsi_service(i, pfd.revents & events) < 0)
			return -EIO;
	}
	return 0;
}

int service(struct iscsi_context *i, short events, bool (*cond)(void *),
	    void *arg)
{
	return service_ms(i, events, cond, arg, ISCSI_SOON);
}

bool is_done(void *arg)
{
	return ((struct req *)arg)->done;
}

bool all_sent(void *arg)
{
	return !(iscsi_which_events(arg) & POLLOUT);
}

int start(struct iscsi_context *i, struct req *req, enum tzc_dir dir,
	  void *buf, size_t len, off_t off)
{
	*req = (struct req){ };
	if (dir == TZC_WRITE)
		req->task = iscsi_write16_task(i, 0, off / TZC_SECTOR, buf, len,
					       TZC_SECTOR, 0, 0, 0, 0, 0,
					       req_done, req);
	else
		req->task = iscsi_read16_task(i, 0, off / TZC_SECTOR, len,
					      TZC_SECTOR, 0, 0, 0, 0, 0,
					      req_done, req);
	if (!req->task ||
	    (dir == TZC_READ && buf &&
	     scsi_task_add_data_in_buffer(req->task, len, buf)))
		return -ENOMEM;
	return service(i, POLLOUT, all_sent, i);
}

int finish(struct iscsi_context *i, struct req *req)
{
	int ret = service(i, POLLIN | POLLOUT, is_done, req);

	return ret ?: req->status;
}

int xfer(struct iscsi_context *i, enum tzc_dir dir, void *buf,
	 size_t len, off_t off)
{
	struct req req;
	int ret = start(i, &req, dir, buf, len, off);

	ret = ret ?: finish(i, &req);
	if (req.task && req.done)
		scsi_free_scsi_task(req.task);
	return ret;
}

