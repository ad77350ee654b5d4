/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __TCMU_TEST_ISCSI_H
#define __TCMU_TEST_ISCSI_H

#include "libtcmuzc.h"

struct iscsi_context;
struct scsi_task;

#define ISCSI_IQN	"iqn.2026-01.org.example:zct"
#define ISCSI_TPG	"/sys/kernel/config/target/iscsi/" ISCSI_IQN "/tpgt_1"
#define ISCSI_LUN	ISCSI_TPG "/lun/lun_0"
/* ms; see SOON in zc_test.h */
#define ISCSI_SOON	10000

/* The device as LUN 0 of a target. */
int iscsi_target_up(struct tzc_dev *d);
/* Also what a crash left. */
void iscsi_target_down(void);
void iscsi_target_lun_down(void);

/* One command; done is set by its callback. */
struct req {
	struct scsi_task *task;
	bool done;
	int status;
};

struct iscsi_context *session_up(const char *name, unsigned int isid);
/* Break the connection. */
void session_reset(struct iscsi_context *i);
void session_down(struct iscsi_context *i);

/* Handle these poll() events until cond() is true, or for that long. */
int service_ms(struct iscsi_context *i, short events,
	       bool (*cond)(void *), void *arg, int ms);
int service(struct iscsi_context *i, short events, bool (*cond)(void *),
	    void *arg);
/* A callback of libiscsi, for a struct req */
void req_done(struct iscsi_context *i, int status, void *data, void *arg);
/* Conditions: of a struct req, of a struct iscsi_context. */
bool is_done(void *arg);
bool all_sent(void *arg);

/* Send a command, but none of the data that the target asks for. */
int start(struct iscsi_context *i, struct req *req, enum tzc_dir dir,
	  void *buf, size_t len, off_t off);
/* The SCSI status, or a negative errno. */
int finish(struct iscsi_context *i, struct req *req);
int xfer(struct iscsi_context *i, enum tzc_dir dir, void *buf,
	 size_t len, off_t off);

#endif
