#include "tests/engine/text/reply/reply_harness.h"

namespace mea {

ParameterTypes TestParameterTypes() {
  static const ParameterTypes types =
      *ParameterTypes::Read(R"([{"type": "function", "function": {"name": "f", "parameters": {
      "type": "object", "properties": {"s": {"type": "string"}, "n": {"type": "integer"},
      "x": {"type": "number"}, "b": {"type": "boolean"}, "o": {"type": "object"},
      "a": {"type": "array"}, "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
      "pick": {"enum": [1, 2, "three"]}}}}}])");
  return types;
}

std::vector<SampleReply> SampleReplies() {
  using T = ToolFormat;
  using R = ReasoningFormat;
  return {
      {{T::kHermes, R::kThinkTags},
       "<think>\nIs it <tool_call> or not?\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": "
       "\"f\", "
       "\"arguments\": {\"s\": \"a}\\\"{<\\u00e9\", \"n\": [1, {}]}}\n</tool_call>\n<tool_call>\n"
       "{\"arguments\": {\"x\": 1.5}, \"name\": \"g\"}\n</tool_call>\nDone <tool in prose."},
      {{T::kHermes, R::kNone}, "Not a call: <tool_call>{\"name\": 1}</tool_call> {é} <tool_call"},
      {{T::kLlama3Json, R::kNone},
       "{\"name\": \"f\", \"parameters\": {\"s\": \"é\"}}; {\"name\": \"g\", \"parameters\": {}}"},
      {{T::kLlama3Json, R::kNone}, "Well, <|python_tag|>{\"name\": \"f\", \"parameters\": {}} ok"},
      {{T::kLlama3Json, R::kNone}, "{\"answer\": {\"name\": \"f\"}}"},
      {{T::kPythonic, R::kNone}, "[f(s='it\\'s', n=-1, o={'k': [True, None]}), g()]"},
      {{T::kPythonic, R::kNone}, "[f(n=1), broken(1)] and [see(here)]"},
      {{T::kMistral, R::kMistral},
       "[THINK]hm [/THINK]ok[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"s\": \"]\"}}, "
       "{\"name\": \"g\"}]"},
      {{T::kMistralV11, R::kNone}, "a[TOOL_CALLS]f[ARGS]{\"n\": 1}[TOOL_CALLS]g{\"n\": 2}"},
      {{T::kMistralV11, R::kNone}, "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"n\": 1} tail"},
      {{T::kDeepSeekV3, R::kThinkTags},
       "hm</think>Ok <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
       "{\"s\": \"```\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n"
       "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {{T::kDeepSeekV31, R::kThinkTags},
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"s\": "
       "\"｜\"}<｜tool▁call▁end｜>"
       "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"},
      {{T::kQwen3Coder, R::kThinkTags},
       "<think>\n\n</think>\n\nOk\n<tool_call>\n<function=f>\n<parameter=s>\nline \"1\"\n\nline 3\n"
       "</parameter>\n<parameter=n>\n42\n</parameter>\n<parameter=o>\n{\"a\": [1]}\n</parameter>\n"
       "</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>"},
      {{T::kSeedOss, R::kSeedOss},
       "<seed:think>é</seed:think>\n<seed:tool_call>\n<function=f>\n<parameter=b>true</parameter>\n"
       "</function>\n</seed:tool_call>"},
      {{T::kGlm, R::kThinkTags},
       "\n<think>a</think>\nb\n<tool_call>f\n<arg_key>n</arg_key>\n<arg_value>7</arg_value>\n"
       "<arg_key>s</arg_key>\n<arg_value> x < y "
       "</arg_value>\n</tool_call><tool_call>g</tool_call>"},
      {{T::kKimiK2, R::kThinkTags},
       "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
       "<|tool_call_argument_begin|>{\"n\": 1}<|tool_call_end|><|tool_call_begin|>functions.g:1"
       "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"},
      {{T::kGranite, R::kThinkTags},
       "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"n\": 1}}, {\"name\": \"g\"}] rest"},
      {{T::kCohere, R::kCohere},
       "<|START_THINKING|>why<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", "
       "\"tool_name\": \"f\", \"parameters\": {\"n\": 1}}\n]<|END_ACTION|>"},
      {{T::kCohere, R::kCohere},
       "<|START_THINKING|>why<|END_THINKING|><|START_RESPONSE|>because<|END_RESPONSE|>"},
      {{T::kApertus, R::kApertus},
       "<|inner_prefix|>hm<|inner_suffix|><|tools_prefix|>[{\"f\": {\"n\": 1}}, {\"g\": {}}]"
       "<|tools_suffix|>"},
      {{T::kLfm2, R::kNone}, "<|tool_call_start|>[f(s=\"a\")]<|tool_call_end|>Checking."},
      {{T::kFunctionary, R::kNone},
       "<function=f>{\"n\": 1}</function><function=g>{}</function> ok <function=h>no"},
      {{T::kGemma4, R::kGemma4},
       "<|channel>thought\nhm\n<channel|>Ok<|tool_call>call:f{s:<|\"|>a{b<|\"|>,n:1,a:[true,"
       "<|\"|>é<|\"|>]}<tool_call|>"},
      {{T::kHarmony, R::kHarmony},
       "<|channel|>analysis<|message|>Need <| f.<|end|><|start|>assistant<|channel|>commentary "
       "to=functions.f <|constrain|>json<|message|>{\"n\": 1}\n<|call|>"},
      {{T::kHarmony, R::kHarmony},
       "<|channel|>analysis<|message|>Easy.<|end|><|start|>assistant<|channel|>final<|message|>Hi "
       "é<|return|>"},
  };
}

}  // namespace mea
