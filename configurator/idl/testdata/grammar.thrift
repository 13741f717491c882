/**
 * The whole language once: what the
 * compiler reads, in one file.
 */
namespace * grammar.everything
namespace go grammar (a = "b", c)
namespace py grammar.py;

include "included.thrift"
cpp_include "<vector>"

# A comment.
// Another.
/* And /* one more. */
/***/

/** Of a constant. */
const i32 PLAIN = 42
const i64 NEGATIVE = -9223372036854775808;
const i64 HEX = 0xff,
const i32 NEGATIVE_HEX = -0x10
const double HALF = .5
const double TINY = 1.5e-7
const double WHOLE = 3
const bool YES = true
const bool NO = 0
const string TEXT = 'it\'s "quoted" \\ \n\t'
const binary OCTETS = "octets"
const list<string> WORDS = ["one", 'two'; "three" "four"]
const set<i32> NUMBERS = [3, 1, 2]
const map<string, list<i32>> NESTED = {"a": [1, 2], "b": []}
const included.Color FAVOURITE = included.Color.BLUE
const i32 COPY = PLAIN
const Port DEFAULT_PORT = 443
const included.Point ORIGIN = {"x": 0, "y": 0}

typedef i32 Port (min = "1", max = "65535")
typedef list<Port> (length = "1..4") Ports
typedef included.Color Paint
typedef map<string (length = "1.."), Paint> Palette

/** An enum. */
enum Level {
  LOW,                    // 0
  /** Of a value. */
  MIDDLE = 5 (dear = "x")
  HIGH;
  TOP = 0x10
} (annotated)

/**
 * A struct, with a doc comment
 *   that is indented
 * in the middle.
 */
struct Everything {
  1: required string name (pattern = "[a-z]+", length = "1..10"),
  2: optional Port port = 80;
  3: Level level = Level.MIDDLE
  4: list<map<string, set<i64>>> deep = []
  5: double ratio = 0.25 (min = "0", max = "1")
  6: optional Everything & inner
  7: included.Point at = {"x": 1, "y": 2}
  8: bool flag = true
  9: byte small = -128
  10: i8 smaller
  11: i16 short
  12: binary blob = "abc"
  13: Palette palette = {"a": included.Color.RED}
  14: map cpp_type "std::map" <i32, string> m
  15: list cpp_type "L" <i32> l
  16: set cpp_type "S" <i32> s
  17: string x xsd_optional xsd_nillable xsd_attrs { 1: string a }
  string unnumbered
  -3: string negative
} (final = "yes", a.b.c = "dots")

struct All xsd_all {
}

union Either {
  1: string text
  2: required i32 number
}

exception Broken {
  1: string why
  2: i32 code = PLAIN
}

service Base {
  void ping(),
}

/** A service. */
service Full extends Base {
  /** Of a method. */
  oneway void forget(1: i32 a, 2: string b = "x") (x = "y");
  async void old()
  list<Everything> all(1: optional Level level = Level.LOW) throws (1: Broken b, 2: included.Failed f),
} (s = "t")
