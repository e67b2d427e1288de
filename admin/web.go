package admin

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
)

//go:embed web
var web embed.FS

// pageFiles adds the page's routes: the document at /, and its style and scripts in a folder whose name changes with
// them, so that a browser keeps them until then.
func pageFiles(mux *http.ServeMux) {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // it is embedded
	}
	all := sha256.New()
	names, _ := fs.Glob(files, "*") // the pattern is good
	for _, name := range names {
		text, _ := fs.ReadFile(files, name) // it is embedded
		all.Write(text)
	}
	folder := hex.EncodeToString(all.Sum(nil)[:6])
	document, _ := fs.ReadFile(files, "index.html")
	document = bytes.ReplaceAll(document, []byte(`href="web/`), []byte(`href="`+folder+"/"))
	document = bytes.ReplaceAll(document, []byte(`src="web/`), []byte(`src="`+folder+"/"))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(document) // the reader may have left
	})
	served := http.StripPrefix("/"+folder, http.FileServerFS(files))
	mux.HandleFunc("GET /"+folder+"/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
		served.ServeHTTP(w, r)
	})
}
