// Compiling a grammar is bounded, and ends when nobody wants it any more.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/grammar/grammar_compiler.h"

namespace mea::testing {
namespace {

using Kind = GrammarSpec::Kind;

// As many words as a model's vocabulary has.
std::unique_ptr<GrammarCompiler> MakeWordCompiler(int num_words) {
  std::vector<std::string> vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary.emplace_back(1, static_cast<char>(byte));
  for (int i = 0; i < num_words; ++i) {
    std::string word = i % 2 == 0 ? " " : "";
    for (int rest = i; rest > 0; rest /= 23) word += static_cast<char>('a' + rest % 23);
    vocabulary.push_back(word);
  }
  const int size = static_cast<int>(vocabulary.size());
  return *GrammarCompiler::OfVocabulary(vocabulary, size, {});
}

// Rules that all recurse through the first, on both sides.
GrammarSpec Recursive(int num_rules) {
  std::string text = "root ::= r0\nr0 ::= ";
  for (int i = 1; i <= num_rules; ++i) absl::StrAppend(&text, "r", i, " | ");
  absl::StrAppend(&text, "[a-z]+\n");
  for (int i = 1; i <= num_rules; ++i)
    absl::StrAppend(&text, "r", i, " ::= r0 \" op", i, " \" r0\n");
  return {.kind = Kind::kEbnf, .text = text};
}

constexpr char kSql[] = R"ebnf(root ::= ws stmt ws ";"?
stmt ::= select | insert | update | delete | create | drop
select ::= "SELECT" sp ("DISTINCT" sp)? cols sp "FROM" sp tables (sp join)* (sp where)? (sp group)? (sp having)? (sp order)? (sp limit)? (sp setop sp select)?
setop ::= "UNION" (sp "ALL")? | "INTERSECT" | "EXCEPT"
cols ::= "*" | col (ws "," ws col)*
col ::= expr (sp "AS" sp ident)?
tables ::= table (ws "," ws table)*
table ::= (qname | "(" ws select ws ")") (sp "AS"? sp ident)?
join ::= jointype sp "JOIN" sp table sp "ON" sp expr
jointype ::= "INNER" | "LEFT" (sp "OUTER")? | "RIGHT" | "FULL" | "CROSS"
where ::= "WHERE" sp expr
group ::= "GROUP" sp "BY" sp exprs
having ::= "HAVING" sp expr
order ::= "ORDER" sp "BY" sp orderitem (ws "," ws orderitem)*
orderitem ::= expr (sp dir)? (sp nulls)?
dir ::= "ASC" | "DESC"
nulls ::= "NULLS" sp ("FIRST" | "LAST")
limit ::= "LIMIT" sp integer (sp "OFFSET" sp integer)?
insert ::= "INSERT" sp "INTO" sp qname (ws "(" ws idents ws ")")? ws (values | select)
values ::= "VALUES" ws row (ws "," ws row)*
row ::= "(" ws exprs ws ")"
update ::= "UPDATE" sp qname sp "SET" sp assign (ws "," ws assign)* (sp where)?
assign ::= ident ws "=" ws expr
delete ::= "DELETE" sp "FROM" sp qname (sp where)?
create ::= "CREATE" sp "TABLE" sp (ifnot sp)? qname ws "(" ws coldef (ws "," ws coldef)* ws ")"
ifnot ::= "IF" sp "NOT" sp "EXISTS"
coldef ::= ident sp type (sp constraint)*
type ::= "INTEGER" | "TEXT" | "REAL" | "BLOB" | "VARCHAR" ws "(" ws integer ws ")" | "DECIMAL" ws "(" integer ws "," ws integer ")"
constraint ::= "PRIMARY" sp "KEY" | "NOT" sp "NULL" | "UNIQUE" | "DEFAULT" sp literal | "REFERENCES" sp qname ws "(" ident ")"
drop ::= "DROP" sp "TABLE" sp qname
expr ::= and (sp "OR" sp and)*
and ::= not (sp "AND" sp not)*
not ::= "NOT" sp not | pred
pred ::= sum (predtail)?
predtail ::= ws cmp ws sum | sp ("NOT" sp)? "IN" ws "(" ws (select | exprs) ws ")" | sp ("NOT" sp)? "LIKE" sp string | sp "BETWEEN" sp sum sp "AND" sp sum | sp "IS" sp ("NOT" sp)? "NULL"
cmp ::= "=" | "<>" | "!=" | "<" | "<=" | ">" | ">="
sum ::= prod (ws [+-] ws prod)*
prod ::= unary (ws [*/%] ws unary)*
unary ::= [+-] unary | atom
atom ::= literal | call | case | exists | qname | "(" ws (expr | select) ws ")" | cast
call ::= fname ws "(" ws ("DISTINCT" sp)? ("*" | exprs)? ws ")" (sp over)?
fname ::= "COUNT" | "SUM" | "AVG" | "MIN" | "MAX" | "COALESCE" | "LOWER" | "UPPER" | "LENGTH" | ident
over ::= "OVER" ws "(" ws (partition sp)? (order)? ws ")"
partition ::= "PARTITION" sp "BY" sp exprs
case ::= "CASE" (sp expr)? (sp when)+ (sp "ELSE" sp expr)? sp "END"
when ::= "WHEN" sp expr sp "THEN" sp expr
exists ::= "EXISTS" ws "(" ws select ws ")"
cast ::= "CAST" ws "(" ws expr sp "AS" sp type ws ")"
exprs ::= expr (ws "," ws expr)*
idents ::= ident (ws "," ws ident)*
qname ::= ident ("." (ident | "*"))?
ident ::= [a-zA-Z_] [a-zA-Z0-9_]* | "\"" [^"]+ "\""
literal ::= number | string | "NULL" | "TRUE" | "FALSE" | date
date ::= "DATE" sp string
number ::= integer ("." [0-9]+)?
integer ::= [0-9]+
string ::= "'" ([^'] | "''")* "'"
sp ::= [ \t\n]+
ws ::= [ \t\n]*
)ebnf";

TEST(CompileBoundTest, ALongLanguageIsAccepted) {
  const auto compiler = MakeWordCompiler(60'000);
  const auto grammar = compiler->Compile({.kind = Kind::kEbnf, .text = kSql});
  EXPECT_TRUE(grammar.ok()) << grammar.status();
}

TEST(CompileBoundTest, RulesThatMultiplyAreRefusedWithTheBound) {
  const auto compiler = MakeWordCompiler(60'000);
  const absl::Status status = compiler->Compile(Recursive(100)).status();
  EXPECT_EQ(status,
            absl::InvalidArgumentError("the grammar takes more than 30000000 steps to compile"));
  EXPECT_TRUE(compiler->Compile(Recursive(3)).ok());
}

TEST(CompileBoundTest, EndsWhenItIsNoLongerWanted) {
  const auto compiler = MakeWordCompiler(60'000);
  int num_questions = 0;
  const auto gone = [&]() -> absl::Status {
    return ++num_questions < 20 ? absl::OkStatus() : absl::CancelledError("gone");
  };
  EXPECT_EQ(compiler->Compile(Recursive(100), gone).status(), absl::CancelledError("gone"));
  EXPECT_EQ(num_questions, 20);
}

TEST(CompileBoundTest, WhoWaitsForACompilationThatIsAbandonedCompiles) {
  const auto compiler = MakeWordCompiler(20'000);
  const GrammarSpec spec = Recursive(10);
  std::latch first_is_at_it(1), second_has_come(1);
  std::thread first([&] {
    const auto gone = [&]() -> absl::Status {
      if (!first_is_at_it.try_wait()) first_is_at_it.count_down();
      second_has_come.wait();
      return absl::CancelledError("gone");
    };
    EXPECT_EQ(compiler->Compile(spec, gone).status(), absl::CancelledError("gone"));
  });
  first_is_at_it.wait();
  const auto wanted = [&] {
    if (!second_has_come.try_wait()) second_has_come.count_down();
    return absl::OkStatus();
  };
  EXPECT_TRUE(compiler->Compile(spec, wanted).ok());
  first.join();
}

TEST(CompileBoundTest, WhoWaitsForAnotherMayLeave) {
  const auto compiler = MakeWordCompiler(100);
  const GrammarSpec spec{.kind = Kind::kRegex, .text = "[a-z]+"};
  std::latch first_is_at_it(1), second_has_left(1);
  std::thread first([&] {
    const auto wait = [&] {
      if (!first_is_at_it.try_wait()) first_is_at_it.count_down();
      second_has_left.wait();
      return absl::OkStatus();
    };
    EXPECT_TRUE(compiler->Compile(spec, wait).ok());
  });
  first_is_at_it.wait();
  const auto gone = [] { return absl::DeadlineExceededError("late"); };
  EXPECT_EQ(compiler->Compile(spec, gone).status(), absl::DeadlineExceededError("late"));
  second_has_left.count_down();
  first.join();
}

}  // namespace
}  // namespace mea::testing
