package admin

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed web
var web embed.FS

// pageFiles serves the page: a document, its style and its scripts.
func pageFiles() http.Handler {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // it is embedded
	}
	return http.FileServerFS(files)
}
