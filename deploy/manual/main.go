// Command manual converts the output of a program's -h to its man page, to a file of its environment
// variables, or to the completion of its flags in a shell, so that all of them have the same content.
//
//	wsecho -h | manual -version 1.2.3 -date 2026-01-31 -see 'wsload(1)' > wsecho.1
//	wsecho -h | manual -environment > /etc/default/wsecho
//	wsecho -h | manual -completion bash > /usr/share/bash-completion/completions/wsecho
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

func main() {
	environment := flag.Bool("environment", false, "write a file of environment variables instead of a man page")
	completion := flag.String("completion", "", "write the completion for a `shell`: bash, zsh or fish")
	version := flag.String("version", "", "program `version` in the footer of the page")
	date := flag.String("date", "", "`date` of the page, such as 2026-01-31")
	files := flag.String("files", "", "comma-separated `list` of files that the program reads, each with a colon and a description")
	see := flag.String("see", "", "`text` of SEE ALSO, the related pages")
	flag.Parse()
	h, err := parse(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
	switch {
	case *environment:
		h.writeEnvironment(os.Stdout)
	case *completion != "":
		if err := h.writeCompletion(os.Stdout, *completion); err != nil {
			fmt.Fprintln(os.Stderr, "manual:", err)
			os.Exit(2)
		}
	default:
		h.writePage(os.Stdout, page{*version, *date, *files, *see})
	}
}

// help is the parsed output of -h.
type help struct {
	program string
	about   string // begins with the program's name
	usage   string
	options []option
	notes   []string // paragraphs; indented lines form a list
}

type option struct {
	name, unit, variable string
	text, byDefault      string
	varies               bool // the default depends on the machine
}

var (
	optionLine  = regexp.MustCompile(`^  -([a-z-]+)((?: [^ ]+)*?) *((?: [A-Z][A-Z0-9_]+)?)$`)
	defaultTail = regexp.MustCompile(` \(default (.*)\)$`)
)

// parse parses the output of -h. Separated by empty lines, that is: a description of the program,
// "usage:", the flags as flags.Explain writes them, and notes.
func parse(r io.Reader) (*help, error) {
	h := &help{}
	var paragraph []string
	end := func() {
		text := strings.Join(paragraph, "\n")
		switch {
		case text == "":
		case h.about == "":
			h.about = text
			h.program, _, _ = strings.Cut(text, " ")
		case strings.HasPrefix(text, "usage: "):
			h.usage = strings.TrimPrefix(text, "usage: ")
		case h.options == nil && strings.HasPrefix(text, "  -"):
			h.options = parseOptions(paragraph)
		default:
			h.notes = append(h.notes, text)
		}
		paragraph = nil
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if lines.Text() == "" {
			end()
			continue
		}
		paragraph = append(paragraph, strings.TrimRight(lines.Text(), " "))
	}
	end()
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if h.usage == "" || h.options == nil {
		return nil, fmt.Errorf("input is not the output of -h: it has %d flags and the usage %q", len(h.options), h.usage)
	}
	return h, nil
}

func parseOptions(lines []string) (options []option) {
	for _, line := range lines {
		if m := optionLine.FindStringSubmatch(line); m != nil {
			options = append(options, option{name: m[1], unit: strings.TrimSpace(m[2]), variable: strings.TrimSpace(m[3])})
			continue
		}
		o := &options[len(options)-1]
		o.text = strings.TrimSpace(line)
		if m := defaultTail.FindStringSubmatch(o.text); m != nil {
			o.text, o.byDefault = strings.TrimSuffix(o.text, m[0]), m[1]
		}
		o.varies = strings.Contains(o.text, "the default is ")
	}
	return options
}

// page holds the parts of the man page that -h does not have.
type page struct{ version, date, files, see string }

func (h *help) writePage(w io.Writer, p page) {
	fmt.Fprintf(w, ".\\\" Made from %s -h.\n.TH %s 1 %q %q %q\n.nh\n.ad l\n", h.program, strings.ToUpper(h.program), p.date, h.program+" "+p.version, "User Commands")
	about := strings.TrimPrefix(strings.TrimPrefix(h.about, h.program+" "), "is ")
	summary, _, _ := strings.Cut(strings.ReplaceAll(about, "\n", " "), ": ")
	fmt.Fprintf(w, ".SH NAME\n%s \\- %s\n", h.program, roff(summary))
	program, arguments, _ := strings.Cut(h.usage, " ")
	fmt.Fprintf(w, ".SH SYNOPSIS\n.B %s\n%s\n", program, roff(arguments))
	fmt.Fprintf(w, ".SH DESCRIPTION\n%s\n", roff(h.about))
	fmt.Fprint(w, ".SH OPTIONS\n")
	for _, o := range h.options {
		fmt.Fprintf(w, ".TP\n\\fB\\-%s\\fR \\fI%s\\fR\n%s.\n", roff(o.name), roff(o.unit), roff(o.text))
		if o.byDefault != "" && !o.varies {
			fmt.Fprintf(w, "Default: %s.\n", roff(o.byDefault))
		}
		if o.variable != "" {
			fmt.Fprintf(w, "Environment:\n.BR %s .\n", o.variable)
		}
	}
	fmt.Fprint(w, ".SH NOTES\n")
	for _, n := range h.notes {
		writeNote(w, n)
	}
	if p.files != "" {
		fmt.Fprint(w, ".SH FILES\n")
		for item := range strings.SplitSeq(p.files, ",") {
			name, meaning, _ := strings.Cut(item, ":")
			fmt.Fprintf(w, ".TP\n.I %s\n%s\n", roff(name), roff(meaning))
		}
	}
	if p.see != "" {
		fmt.Fprintf(w, ".SH SEE ALSO\n%s\n", roff(p.see))
	}
}

// writeNote writes a paragraph, or the items of a list: a term, at least two spaces, its meaning.
func writeNote(w io.Writer, text string) {
	fmt.Fprint(w, ".PP\n")
	for line := range strings.SplitSeq(text, "\n") {
		item, inList := strings.CutPrefix(line, "  ")
		if term, meaning, ok := strings.Cut(item, "  "); inList && ok {
			fmt.Fprintf(w, ".TP\n%s\n%s\n", roff(term), roff(strings.TrimSpace(meaning)))
			continue
		}
		fmt.Fprintln(w, roff(line))
	}
}

// roff escapes text for roff. It keeps hyphens as ASCII, so that readers can copy flags from the
// page.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// writeEnvironment writes each variable with its default, commented out.
func (h *help) writeEnvironment(w io.Writer) {
	fmt.Fprintf(w, "# Environment variables of %s.service, which set the flags of %s. The values are the defaults.\n"+
		"# To change one, remove the # and restart the service (systemctl restart %[1]s).\n", h.program, h.program)
	for _, o := range h.options {
		if o.variable == "" {
			continue
		}
		fmt.Fprintf(w, "\n# %s", wrap("-"+o.name+" "+o.unit+": "+o.text+".", "\n# "))
		byDefault := o.byDefault
		if o.varies || byDefault == "none" {
			byDefault = ""
		}
		fmt.Fprintf(w, "\n#%s=%s\n", o.variable, byDefault)
	}
}

// wrap breaks text into lines of about 95 characters.
func wrap(text, newline string) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+len(word) > 95:
			b.WriteString(newline)
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
