// Package localdb runs a private MariaDB (or MySQL) that needs no set-up: it
// finds the server's binary, makes a data directory, starts the server on a
// unix socket only, keeps it running and stops it.
//
//	New(Options)          finds the binary; touches nothing
//	   │
//	   ▼  Run(ctx)
//	claim the directory   marker file, two flocks ──── somebody else's: ErrForeign, ErrInUse
//	   ▼
//	make data/            once, by mariadbd --bootstrap in data.new/, then a rename
//	   ▼
//	start ──> answers? ──> up ──────── ctx done ──> SIGTERM, wait, Run returns nil
//	  ▲          │ no       │ died
//	  │          ▼          ▼
//	  │      first start:  Event{Down}
//	  │      Run fails      │
//	  └───── back off ──────┘
//
// # The directory
//
//	DIR/.syncgate-localdb   the marker: this directory is ours, all of it
//	DIR/owner.lock          flock of the process that runs Run; another owner is refused at once
//	DIR/server.lock         flock that the database process inherits: it is free only when both are gone
//	DIR/data/               the server's data directory; it appears complete or not at all
//	DIR/tmp/                the server's own tmpdir (a starting mariadbd deletes every #sql* file in its tmpdir)
//	DIR/db.sock, db.pid     while it runs
//	DIR/error.log           the server's own words
//
// A directory that has anything in it and no marker is refused, and so is one
// that belongs to another user. When DIR's name is too long for a socket address the socket
// moves to a directory of its own under os.TempDir, named by user and DIR,
// mode 0700, removed when Run returns.
//
// # Whose process it is
//
// The database runs as the user that runs syncgate, also when that is root.
// Switching to another user would need every parent of DIR to be open to
// that user, and Linux forgets the parent-death signal when a process changes
// its user. Access is by the directory's mode 0700: the database's root has no
// password, and no network listener exists. Run services as an ordinary user.
//
// # When the parent is killed
//
// The parent-death signal ends the database: SIGTERM with durable settings, so
// that it shuts down in order, SIGKILL with fast ones, where nothing is worth
// keeping. Linux sends it when the thread that started the child ends, so Run
// keeps its thread. A new owner waits for server.lock, thus for the old
// database's last write, and never signals a process it did not start.
package localdb
