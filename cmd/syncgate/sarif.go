package main

import (
	"encoding/json"
	"fmt"
	"io"

	"syncgate/protocol"
	"syncgate/rule"
)

// The parts of SARIF 2.1.0 (OASIS) that a list of diagnostics needs. A row of
// sync_control is no file, so a finding carries a logical location, and the position
// within the column is a region of an artifact named after that column.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver struct {
				Name    string      `json:"name"`
				Version string      `json:"version"`
				Rules   []sarifRule `json:"rules"`
			} `json:"driver"`
		} `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Name  string    `json:"name"`
		Short sarifText `json:"shortDescription"`
		Help  sarifText `json:"help"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region *sarifRegion `json:"region,omitempty"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	sarifLogical struct {
		FullName string `json:"fullyQualifiedName"`
		Kind     string `json:"kind"`
	}
)

// writeSARIF prints diagnostics for tools that read SARIF, as code review and CI do.
func writeSARIF(w io.Writer, ds []rule.Diagnostic) error {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver.Name, run.Tool.Driver.Version = "syncgate", version()
	seen := map[rule.Code]bool{}
	for _, d := range ds {
		if !seen[d.Code] {
			seen[d.Code] = true
			info := protocol.Status(d.Code).Info()
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules,
				sarifRule{d.Code.String(), info.Name, sarifText{info.Meaning}, sarifText{info.Remedy}})
		}
		run.Results = append(run.Results, sarifResultOf(d))
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}})
}

func sarifResultOf(d rule.Diagnostic) sarifResult {
	level := map[rule.Severity]string{rule.Error: "error", rule.Warning: "warning", rule.Info: "note"}[d.Severity]
	text := d.Message
	if d.Fix != "" {
		text += "; " + d.Fix
	}
	column := d.Column
	if d.Section != "" {
		column += "/" + d.Section
	}
	var at sarifLocation
	at.Physical.Artifact.URI = fmt.Sprintf("sync_control/%d/%s", d.RuleID, column)
	if d.Line > 0 {
		at.Physical.Region = &sarifRegion{d.Line, d.Col}
	}
	at.Logical = []sarifLogical{{fmt.Sprintf("sync_control id=%d", d.RuleID), "row"}}
	return sarifResult{d.Code.String(), level, sarifText{text}, []sarifLocation{at}}
}
