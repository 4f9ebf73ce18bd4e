/* Inside the client: its services and what is under way. client.c has the life
 * cycle and the waiting, client_answers.c what comes back. */
#ifndef TENFOLD_REWARD_CLIENT_INTERNAL_H
#define TENFOLD_REWARD_CLIENT_INTERNAL_H

#include "core/wire/message.h"
#include "reward/client.h"

enum { CLIENT_LIVE = 8 }; /* periods under way at once, more than any lag spans */

struct service {
	struct wire_socket *socket;
	int silent;          /* did not answer in time and was not heard of since */
	int aside;           /* unsuitable, by its own word or ours */
	char reason[MESSAGE_REASON + WIRE_ENDPOINT];
	double probe, pause; /* when to say hello to a silent or unsuitable one, and the pause after */
};

struct pending {
	struct group *group; /* NULL: free */
	struct arena *arena;
	struct message_buffer frame;
	int attempts;
	uint32_t at;         /* service it was last sent to */
	uint32_t refused;    /* bit per service */
	double deadline;
};

struct reward_client {
	struct service *services;
	struct wire_socket **sockets; /* the same, for polling */
	uint32_t n;
	uint64_t live_every;
	struct {
		uint64_t period; /* step / live_every */
		char version[GROUP_VERSION];
	} live[CLIENT_LIVE];     /* of period p: at p % CLIENT_LIVE */
	char run[MESSAGE_RUN], fingerprint[HASH_HEX], name[MESSAGE_NAME], version[GROUP_VERSION];
	double timeout, backoff_max;
	int retries, combine;
	struct reward_rule rule;
	struct pending *pending;
	uint32_t slots, count; /* places in `pending`; used ones */
	uint32_t turn;         /* service to be read first */
	struct arena *arena;   /* of one answer */
	struct message_buffer buffer;
	struct reward_client_counters counters;
};

/* Sends p to the next suitable service. ERR_STATE or ERR_MISMATCH when there is none. */
int client_send(struct reward_client *c, struct pending *p, struct err *e);
/* Says hello, so that an answer shows whether it is there and suitable. */
void client_hello(struct reward_client *c, uint32_t service);
void client_release(struct reward_client *c, struct pending *p);
/* Takes one frame of a service: 1 with *scored, 0, or an error as reward_client_poll's. */
int client_take(struct reward_client *c, uint32_t service, const struct wire_frame *f, struct group **scored, struct err *e);

#endif
