// Package flags is the common part of the programs' command lines: flags whose values are checked
// when they are set, an environment variable for each flag, and the help text. It is built on the
// standard flag package; ff adds the environment.
package flags

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3"
)

// NewSet returns an empty set of flags. Unlike the flag package's default, it prints nothing when
// parsing fails.
func NewSet(program string) *flag.FlagSet {
	fs := flag.NewFlagSet(program, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// Parse sets the flags from the arguments, and the remaining flags from environment variables,
// whose names are prefix, an underscore and the flag's name in upper case. Errors name the flag or
// variable, its value, and the reason.
func Parse(fs *flag.FlagSet, args []string, prefix string) error {
	if err := ff.Parse(fs, args, ff.WithEnvVarPrefix(prefix)); err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // omits ff's prefix "error parsing …"
		}
		return withValue(err, fs, prefix)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: only flags are accepted", fs.Arg(0))
	}
	return nil
}

// withValue adds a variable's value to an error about the variable of a Boolean flag, which comes from
// the flag package and names only the variable.
func withValue(err error, fs *flag.FlagSet, prefix string) error {
	text := err.Error()
	fs.VisitAll(func(f *flag.Flag) {
		boolean, ok := f.Value.(interface{ IsBoolFlag() bool })
		if !ok || !boolean.IsBoolFlag() {
			return
		}
		name := variable(prefix, f.Name)
		if value := strconv.Quote(os.Getenv(name)); strings.Contains(text, strconv.Quote(name)) && !strings.Contains(text, value) {
			err = fmt.Errorf("%w: %s is neither true nor false", err, value)
		}
	})
	return err
}

// variable returns the name of a flag's environment variable.
func variable(prefix, name string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Arguments sets the flags from args, and returns the arguments that are not flags, in their order.
// Unlike the flag package, it accepts flags after such arguments. After "--" there are no flags.
func Arguments(fs *flag.FlagSet, args []string) (others []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		rest := fs.Args()
		if n := len(args) - len(rest); len(rest) == 0 || n > 0 && args[n-1] == "--" {
			return append(others, rest...), nil
		}
		others = append(others, rest[0])
		args = rest[1:]
	}
}

// Explain writes the help text: each flag with its unit, variable, meaning and default.
func Explain(w io.Writer, fs *flag.FlagSet, prefix string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fs.VisitAll(func(f *flag.Flag) {
		unit, usage := flag.UnquoteUsage(f)
		variable := variable(prefix, f.Name)
		byDefault := fmt.Sprintf(" (default %s)", cmp.Or(f.DefValue, "none"))
		if f.Name == "version" {
			variable, byDefault = "", ""
		}
		fmt.Fprintf(t, "  -%s %s\t%s\n  \t%s%s\n", f.Name, unit, variable, usage, byDefault)
	})
	t.Flush()
}

// Version adds the flag -version. It has no environment variable, because deployments use a
// variable of that name for other purposes.
func Version(fs *flag.FlagSet, p *bool) {
	fs.BoolFunc("version", "print version, commit and Go version", func(text string) error {
		*p = text == "true"
		return nil
	})
}

// value is a flag.Value whose text is checked when it is set.
type value[T any] struct {
	p     *T
	parse func(string) (T, error)
}

// Var adds a flag to fs. parse checks and converts its text when it is set; Var adds the text to
// the error of parse, which should therefore begin with a verb: "is not an integer".
func Var[T any](fs *flag.FlagSet, p *T, name string, byDefault T, parse func(string) (T, error), usage string) {
	*p = byDefault
	fs.Var(value[T]{p, parse}, name, usage)
}

func (v value[T]) Set(text string) error {
	x, err := v.parse(text)
	if err != nil {
		return fmt.Errorf("%q %w", text, err)
	}
	*v.p = x
	return nil
}

func (v value[T]) String() string {
	if v.p == nil {
		return ""
	}
	return fmt.Sprint(*v.p)
}

// Int returns a parser for an integer from least to most.
func Int(least, most int) func(string) (int, error) {
	return func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, errors.New("is not an integer")
		}
		return n, Between(n, least, most)
	}
}

// Duration returns a parser for a duration from least to most, in the form of time.ParseDuration.
func Duration(least, most time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil {
			return 0, errors.New("is not a duration such as 500ms, 10s or 1h30m")
		}
		return d, Between(d, least, most)
	}
}

// Text is a parser that accepts any text, including the empty one.
func Text(text string) (string, error) { return text, nil }

// Word returns a parser that accepts only the given words.
func Word(words ...string) func(string) (string, error) {
	return func(text string) (string, error) {
		for _, w := range words {
			if text == w {
				return w, nil
			}
		}
		return "", fmt.Errorf("is not one of %s", strings.Join(words, ", "))
	}
}

// Between returns an error if x is not between least and most, inclusive.
func Between[T cmp.Ordered](x, least, most T) error {
	if x < least || x > most {
		return fmt.Errorf("is not between %v and %v", least, most)
	}
	return nil
}

// ByteSize is a number of bytes.
type ByteSize int64

// ByteUnits lists the units of sizes, largest first.
var ByteUnits = []struct {
	Name string
	Size ByteSize
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (b ByteSize) String() string {
	for _, u := range ByteUnits {
		if b >= u.Size && b%u.Size == 0 && u.Size > 1 {
			return fmt.Sprintf("%d%s", b/u.Size, u.Name)
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Size returns a parser for a number of bytes from least to most, with an optional unit: 65536,
// 64KiB or 1GiB.
func Size(least, most ByteSize) func(string) (ByteSize, error) {
	return func(text string) (ByteSize, error) {
		digits, unit := text, ByteSize(1)
		for _, u := range ByteUnits {
			if d, found := strings.CutSuffix(text, u.Name); found {
				digits, unit = strings.TrimSpace(d), u.Size
				break
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || ByteSize(n) > math.MaxInt64/unit {
			return 0, errors.New("is not a size in bytes such as 65536, 64KiB or 1GiB")
		}
		return ByteSize(n) * unit, Between(ByteSize(n)*unit, least, most)
	}
}

// Split splits a comma-separated list, and trims spaces around its items. Empty items are an error.
func Split(text string) ([]string, error) {
	items := strings.Split(text, ",")
	for i := range items {
		if items[i] = strings.TrimSpace(items[i]); items[i] == "" {
			return nil, errors.New("has an empty item")
		}
	}
	return items, nil
}
