package main

import (
	"fmt"
	"io"
	"strings"
)

// writeCompletion writes the completion of the program's flags for bash, zsh or fish. It completes
// the names of flags, their values if there are only a few, and the names of files.
func (h *help) writeCompletion(w io.Writer, shell string) error {
	switch shell {
	case "bash":
		h.writeBash(w)
	case "zsh":
		h.writeZsh(w)
	case "fish":
		h.writeFish(w)
	default:
		return fmt.Errorf("-completion %q is not one of bash, zsh, fish", shell)
	}
	return nil
}

// words returns the values of an option whose unit lists them, such as text|json.
func (o *option) words() []string {
	if !strings.Contains(o.unit, "|") {
		return nil
	}
	return strings.Split(o.unit, "|")
}

// takesFile reports whether the value of an option is the name of a file.
func (o *option) takesFile() bool { return o.unit == "file" }

// isBoolean reports whether an option has no value, or true or false after an equals sign.
func (o *option) isBoolean() bool { return o.unit == "" }

// summary returns the first part of an option's text, without quotes and colons.
func (o *option) summary() string {
	text := strings.NewReplacer("'", "", `"`, "", "`", "", "[", "", "]", "", ":", "").Replace(firstClause(o.text))
	return strings.TrimSpace(text)
}

// firstClause returns the text before the first colon, semicolon or period that ends a clause.
func firstClause(text string) string {
	for i, c := range text {
		end := i+1 == len(text) || text[i+1] == ' '
		if end && (c == ';' || c == ':' || c == '.') {
			return text[:i]
		}
	}
	return text
}

// bash passes a flag and its value as one word, or as three: "=" is between words of its own.
const bash = `# Completion of %[1]s for bash. Made from %[1]s -h.
_%[1]s() {
	local word=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]}
	if [ "$word" = = ]; then
		word=
	elif [ "$flag" = = ]; then
		flag=${COMP_WORDS[COMP_CWORD-2]}
	fi
	COMPREPLY=()
	case ${flag/#--/-} in
%[2]s	esac
	case $word in
	-*) mapfile -t COMPREPLY < <(compgen -W '%[3]s' -- "${word/#--/-}") ;;
	esac
}
complete -F _%[1]s %[1]s
`

func (h *help) writeBash(w io.Writer) {
	var cases strings.Builder
	var names, valued []string
	for _, o := range h.options {
		names = append(names, "-"+o.name)
		switch {
		case o.words() != nil:
			fmt.Fprintf(&cases, "\t-%s) mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$word\"); return ;;\n", o.name, strings.Join(o.words(), " "))
		case o.takesFile():
			fmt.Fprintf(&cases, "\t-%s) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); return ;;\n", o.name)
		case !o.isBoolean():
			valued = append(valued, "-"+o.name)
		}
	}
	fmt.Fprintf(&cases, "\t%s) return ;;\n", strings.Join(valued, " | "))
	fmt.Fprintf(w, bash, h.program, cases.String(), strings.Join(names, " "))
}

func (h *help) writeZsh(w io.Writer) {
	fmt.Fprintf(w, "#compdef %s\n# Completion of %[1]s for zsh. Made from %[1]s -h.\n_arguments \\\n", h.program)
	for _, o := range h.options {
		value := ""
		switch {
		case o.words() != nil:
			value = fmt.Sprintf(":value:(%s)", strings.Join(o.words(), " "))
		case o.takesFile():
			value = ":file:_files"
		case !o.isBoolean():
			value = fmt.Sprintf(":%s: ", o.unit)
		}
		equals := "="
		if value == "" {
			equals = ""
		}
		fmt.Fprintf(w, "\t'-%s%s[%s]%s' \\\n", o.name, equals, o.summary(), value)
	}
	fmt.Fprintf(w, "\t'*: :'\n")
}

func (h *help) writeFish(w io.Writer) {
	fmt.Fprintf(w, "# Completion of %s for fish. Made from %[1]s -h.\ncomplete -c %[1]s -f\n", h.program)
	for _, o := range h.options {
		value := ""
		switch {
		case o.words() != nil:
			value = fmt.Sprintf(" -x -a '%s'", strings.Join(o.words(), " "))
		case o.takesFile():
			value = " -r -F"
		case !o.isBoolean():
			value = " -x"
		}
		fmt.Fprintf(w, "complete -c %s -o %s%s -d '%s'\n", h.program, o.name, value, o.summary())
	}
}
