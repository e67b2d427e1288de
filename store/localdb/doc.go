// Package localdb runs a private MariaDB that needs no set-up: it finds the server's binary, makes a data directory,
// starts the server on a unix socket only, restarts it when it dies, and stops it.
//
//	Start(ctx, Options)   finds the binary
//	   ▼
//	lock the directory    marker file, two flocks ──── in use: ErrInUse; not ours: ErrForeign
//	   ▼
//	make data/            once, by mariadbd --bootstrap in data.new/, then a rename
//	   ▼
//	start ──> answers? ──> up, Start returns ── Stop ──> SIGTERM, wait
//	  ▲          │ no       │ died
//	  │          ▼          ▼
//	  │      first start:  logged
//	  │      Start fails    │
//	  └───── back off ──────┘
//
// # The directory
//
//	DIR/.syncgate-localdb   the marker: localdb made this directory and owns all of it
//	DIR/owner.lock          flock of the process that called Start; a second owner fails at once
//	DIR/server.lock         flock that the database process inherits: it is free when both processes have ended
//	DIR/data/               the server's data directory; it is complete or does not exist
//	DIR/tmp/                the server's own tmpdir (a starting mariadbd deletes every #sql* file in its tmpdir)
//	DIR/db.sock, db.pid     exist while the server runs
//	DIR/error.log           the server's log
//
// localdb refuses a directory that has files and no marker, and one that belongs to another user. When DIR's name is
// too long for a socket address, the socket is in a directory of its own under os.TempDir, named by user and DIR, mode
// 0700, removed at the end.
//
// # The database's user
//
// The database runs as the user that runs syncgate, also when that is root. Another user would need access to every
// parent of DIR, and Linux drops the parent-death signal when a process changes its user. The directory's mode 0700
// protects the database: its root has no password, and it has no network listener. Run services as an ordinary user.
//
// # When the parent is killed
//
// The parent-death signal ends the database: SIGTERM with durable settings, so that it shuts down in order, SIGKILL
// with fast ones, whose data nobody needs. Linux sends the signal when the thread that started the child ends, so the
// goroutine that starts it keeps its thread. A new owner waits for server.lock, and so for the old database's last
// write. It never signals a process it did not start.
package localdb
