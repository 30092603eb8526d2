/* The libevent headers whose declarations legate calls; see regenerate.sh. */
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/listener.h>
#include <event2/util.h>
