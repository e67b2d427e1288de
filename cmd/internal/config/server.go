package config

import (
	"fmt"
	"net"
	"time"
)

// Server holds the settings of `syncgate`.
type Server struct {
	Listen       string `toml:"listen" comment:"Address agents connect to. 11366 is the port this kind of server has always had."`
	ListenLegacy string `toml:"listen_legacy" comment:"Address of the v1 wire, for the original's agents; empty: not served. Needs [legacy]."`
	DSN          string `toml:"dsn" comment:"The central database, as go-sql-driver writes it: user:password@tcp(host:3306)/database\nor user@unix(/run/mysqld/mysqld.sock)/database. Empty: a private MariaDB under data_dir."`
	DataDir      string `toml:"data_dir" comment:"Where the master key, the private database and received files are kept."`
	MasterKey    string `toml:"master_key_file" comment:"File of the key that wraps the points' keys; made (mode 0600) when missing. Empty: data_dir/master.key."`
	FileDir      string `toml:"file_dir" comment:"Where rules with the operation file may write. Empty: data_dir/files."`
	AcceptUnsafe bool   `toml:"accept_unsafe_database" comment:"Start although the database may lose what was acknowledged (not durable, not InnoDB)."`

	ServerID    string   `toml:"server_id" comment:"Name told to agents. Empty: the host's name."`
	AdminListen string   `toml:"admin_listen" comment:"Address of the status page, /metrics and /healthz; empty: off. It has no password: keep it on loopback."`
	LogLevel    string   `toml:"log_level" comment:"trace, debug, info, warn or error."`
	LogFormat   string   `toml:"log_format" comment:"json, console, or auto: console on a terminal, json elsewhere."`
	Drain       Duration `toml:"drain_timeout" comment:"How long a stop waits for requests in hand."`

	Loops             int      `toml:"loops" comment:"Event loops; 0: one a processor."`
	Workers           int      `toml:"workers" comment:"Requests run at once, downloads apart; 0: four a processor, eight at least."`
	Queue             int      `toml:"queue" comment:"Requests that may wait; over it agents are told BUSY."`
	MaxConnections    int      `toml:"max_connections" comment:"Connections in all."`
	MaxPerAddress     int      `toml:"max_connections_per_address" comment:"Connections from one address (IPv6: one /64)."`
	MaxFrame          Size     `toml:"max_frame" comment:"Largest frame an agent may send, 16MiB at most."`
	MaxInFlight       int      `toml:"max_in_flight" comment:"Requests of one connection in hand at once."`
	Keepalive         Duration `toml:"keepalive" comment:"A connection that is silent for so long is pinged, and closed when silent for twice as long."`
	MaxBufferedInAll  Size     `toml:"max_buffered" comment:"Bytes buffered for all connections together; over it reading pauses."`
	MaxOutPerConn     Size     `toml:"max_outbound" comment:"Bytes waiting for one connection over which it is closed; long before that its requests wait."`
	HandshakesPerSec  int      `toml:"handshakes_per_second" comment:"Handshakes begun a second in all; one address may use a tenth."`
	DatabaseConns     int      `toml:"database_connections" comment:"Connections to the database; 0: as many as workers and downloads, and four."`
	Downloads         int      `toml:"downloads" comment:"Downloads run at once."`
	DownloadBatchRows int      `toml:"download_rows" comment:"Rows of one download; an agent asks again for more."`

	Legacy Legacy `toml:"legacy" comment:"The v1 wire."`
}

// Legacy holds the settings of the seed-era listener.
type Legacy struct {
	Key      string            `toml:"key" comment:"AES key: hex:… or text: and 16, 24 or 32 bytes."`
	IV       string            `toml:"iv" comment:"AES initialisation vector, 16 bytes, written as the key is. Empty: the first 16 bytes of the key."`
	TokenKey string            `toml:"token_key" comment:"Text that ends what a Security_Token is the MD5 of."`
	Window   Duration          `toml:"window" comment:"How far a request's Time may be from ours."`
	Zone     string            `toml:"time_zone" comment:"Zone of the Time that agents write, as in Asia/Shanghai; Local: this host's."`
	Networks []string          `toml:"networks" comment:"Source networks that may connect, as in 10.1.0.0/16. Empty: none."`
	Dialect  string            `toml:"dialect" comment:"The Python that replies are printed for: python2, python3, or python3.6 to python3.13 where it matters;\nauto: as each point's requests show, and python2 until they do; auto:python3 and the like: another until then."`
	Names    map[string]string `toml:"names,inline" comment:"Other names for the packet's dict keys, constants and error words, as in {Security_Token = \"token\"}."`
}

// DefaultServer is a configuration that works without a file.
func DefaultServer() *Server {
	return &Server{
		Listen:            "127.0.0.1:11366",
		DataDir:           "./syncgate-data",
		LogLevel:          "info",
		LogFormat:         "auto",
		Drain:             Duration(20 * time.Second),
		Queue:             1024,
		MaxConnections:    10000,
		MaxPerAddress:     512,
		MaxFrame:          1 << 20,
		MaxInFlight:       16,
		Keepalive:         Duration(60 * time.Second),
		MaxBufferedInAll:  256 << 20,
		MaxOutPerConn:     8 << 20,
		HandshakesPerSec:  500,
		Downloads:         8,
		DownloadBatchRows: 50000,
		Legacy: Legacy{
			Window:  Duration(300 * time.Second),
			Zone:    "Local",
			Dialect: "auto",
			Names:   map[string]string{}, // so that it is printed
		},
	}
}

// Check says which setting is out of its bounds. The error is an *Error.
func (c *Server) Check() error {
	for _, b := range []struct {
		name             string
		value, low, high int64
	}{
		{"loops", int64(c.Loops), 0, 256},
		{"workers", int64(c.Workers), 0, 10_000},
		{"queue", int64(c.Queue), 1, 1 << 20},
		{"downloads", int64(c.Downloads), 1, 10_000},
		{"database_connections", int64(c.DatabaseConns), 0, 100_000},
		{"max_connections", int64(c.MaxConnections), 1, 1 << 20},
		{"max_connections_per_address", int64(c.MaxPerAddress), 1, 1 << 20},
		{"max_frame", int64(c.MaxFrame), 4 << 10, 16 << 20},
		{"max_in_flight", int64(c.MaxInFlight), 1, 65535},
		{"max_buffered", int64(c.MaxBufferedInAll), 1 << 20, 1 << 40},
		{"max_outbound", int64(c.MaxOutPerConn), 1 << 20, 1 << 29},
		{"handshakes_per_second", int64(c.HandshakesPerSec), 1, 1_000_000},
		{"download_rows", int64(c.DownloadBatchRows), 1, 1 << 31},
		{"keepalive (in seconds)", int64(c.Keepalive.Std() / time.Second), 1, 36_000},
	} {
		if b.value < b.low || b.value > b.high {
			return &Error{b.name, fmt.Sprintf("%d is not between %d and %d", b.value, b.low, b.high)}
		}
	}
	for name, address := range map[string]string{"listen": c.Listen, "listen_legacy": c.ListenLegacy, "admin_listen": c.AdminListen} {
		if _, _, err := net.SplitHostPort(address); err != nil && (address != "" || name == "listen") {
			return &Error{name, fmt.Sprintf("%q is not an address such as 127.0.0.1:11366", address)}
		}
	}
	return nil
}
