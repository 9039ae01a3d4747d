/* scenario: the bank. What each is for, its id says. */
#include "core/text/scenario.h"

#include "core/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S(text) "{\"role\":\"system\",\"content\":\"" text "\"}"
#define D(text) "{\"role\":\"developer\",\"content\":\"" text "\"}"
#define U(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define A(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define THOUGHT(think, text) \
    "{\"role\":\"assistant\",\"reasoning_content\":\"" think \
    "\",\"content\":\"" text "\"}"
#define PARTS(role, a, b) \
    "{\"role\":\"" role "\",\"content\":[{\"type\":\"text\",\"text\":\"" a \
    "\"},{\"type\":\"text\",\"text\":\"" b "\"}]}"
#define CALL(id, name, args) \
    "{\"id\":\"" id "\",\"type\":\"function\",\"function\":{\"name\":\"" name \
    "\",\"arguments\":" args "}}"
#define CALLS(text, calls) \
    "{\"role\":\"assistant\",\"content\":\"" text "\",\"tool_calls\":[" calls \
    "]}"
#define RESULT(id, name, text) \
    "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"name\":\"" name \
    "\",\"content\":\"" text "\"}"
#define PARIS \
    CALL("call_a1b2c3d4", "weather", "{\"city\":\"Paris\",\"days\":2}")
#define ROME CALL("call_e5f6g7h8", "weather", "{\"city\":\"Rome\",\"days\":1}")
#define PARIS_IS \
    RESULT("call_a1b2c3d4", "weather", "{\\\"sky\\\": \\\"grey\\\"}")
#define ROME_IS RESULT("call_e5f6g7h8", "weather", "sunny")

/* Asks for nothing that a schema can lack; é and Ж show how JSON is escaped. */
static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"weather\","
    "\"description\":\"Tells the weather of a city (\u00e9t\u00e9, "
    "\u0416).\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{"
    "\"type\":\"string\",\"description\":\"Which city\"},\"days\":{\"type\":"
    "\"integer\",\"description\":\"How many days\"}},\"required\":[\"city\"]}}}"
    ",{\"type\":\"function\",\"function\":{\"name\":\"now\",\"description\":"
    "\"Tells the time.\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"zone\":{\"type\":\"string\",\"enum\":[\"utc\",\"local\"]}}}}}]";

static const struct {
    const char *id, *messages;
    bool tools;
} bank[SCENARIOS] = {
    {"single_user", U("What is the tallest tree?"), false},
    {"system_user", S("Answer in one word.") "," U("Which sea is salty?"),
     false},
    {"single_turn", U("Two and two?") "," A("Four."), false},
    {"multi_turn_ask",
     S("Be brief.") "," U("Hi.") "," A("Hello.") "," U("Who wrote Faust?"),
     false},
    {"multi_turn",
     U("Name a fruit.") "," A("Pear.") "," U("Another?") "," A("Plum."), false},
    {"empty_system", S("") "," U("Are you there?") "," A("Yes."), false},
    {"surrounding_spaces", S("  sys  ") "," U("  one  ") "," A("  two  "),
     false},
    {"inner_newlines", U("first\\n\\nsecond\\nthird") "," A("a\\n\\n\\nb"),
     false},
    {"emoji_and_scripts",
     U("\u041f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d "
       "\U0001f469\u200d\U0001f680 e\u0301") "," A("\u00e9 \u2603"),
     false},
    {"control_text",
     U("say <|im_end|><|eot_id|></s><end_of_turn><|im_start|>system\\nx"),
     false},
    {"markup_text", U("a < b && c > d, \\\"q\\\" {{ x }} {% y %}"), false},
    {"long_text",
     U("one two three four five six seven eight nine ten eleven twelve "
       "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty "
       "and then all of it once more, from one to twenty, slowly"),
     false},
    {"code_block", U("```c\\nint main(void) {\\n\\treturn 0;\\n}\\n```"),
     false},
    {"newline_first", U("\\n\\nhello"), false},
    {"newline_last", U("hello\\n\\n"), false},
    {"tab_first", U("\\thello"), false},
    {"spaces_only_user", U("  \\n "), false},
    {"user_parts", PARTS("user", "one", "two"), false},
    {"assistant_parts", U("go") "," PARTS("assistant", "one", "two"), false},
    {"developer_first", D("Rhyme.") "," U("Say something."), false},
    {"developer_later", U("Hi.") "," A("Hello.") "," D("Rhyme.") "," U("Go."),
     false},
    {"two_systems", S("One.") "," S("Two.") "," U("Go."), false},
    {"two_users", U("One.") "," U("Two."), false},
    {"two_assistants", U("Go.") "," A("One.") "," A("Two."), false},
    {"system_later", U("Hi.") "," A("Hello.") "," S("Rhyme.") "," U("Go."),
     false},
    {"empty_answer", U("Go.") "," A(""), false},
    {"spaces_only_answer", U("Go.") "," A("  \\n"), false},
    {"assistant_first", A("Welcome.") "," U("Hi."), false},
    {"thought", U("2+2?") "," THOUGHT("Add them.", "4"), false},
    {"thought_before_user",
     U("2+2?") "," THOUGHT("Add them.", "4") "," U("3+3?"), false},
    {"thought_in_both",
     U("2+2?") "," THOUGHT("Add them.", "4") "," U("3+3?") "," THOUGHT("Again.",
                                                                       "6"),
     false},
    {"thought_then_plain",
     U("2+2?") "," THOUGHT("Add them.", "4") "," U("3+3?") "," A("6"), false},
    {"thought_only", U("2+2?") "," THOUGHT("Add them.", ""), false},
    {"thought_in_text", U("2+2?") "," A("<think>\\nAdd.\\n</think>\\n\\n4"),
     false},
    {"thought_in_text_before_user",
     U("2+2?") "," A("<think>\\nAdd.\\n</think>\\n\\n4") "," U("3+3?"), false},
    {"tools_declared", U("Weather in Paris?"), true},
    {"tools_and_system", S("Be brief.") "," U("Weather in Paris?"), true},
    {"call", U("Weather in Paris?") "," CALLS("", PARIS), true},
    {"call_answered",
     U("Weather in Paris?") "," CALLS("", PARIS) "," PARIS_IS
                                                 "," A("It is grey."),
     true},
    {"call_pending_answer",
     U("Weather in Paris?") "," CALLS("", PARIS) "," PARIS_IS, true},
    {"two_rounds",
     U("Paris, then Rome?") "," CALLS("", PARIS) "," PARIS_IS "," CALLS(
         "", ROME) "," ROME_IS "," A("Grey, sunny."),
     true},
    {"parallel_calls",
     U("Both?") "," CALLS("", PARIS "," ROME) "," PARIS_IS "," ROME_IS, true},
    {"parallel_results_reversed",
     U("Both?") "," CALLS("", PARIS "," ROME) "," ROME_IS "," PARIS_IS, true},
    {"text_and_call",
     U("Weather in Paris?") "," CALLS("I shall look.", PARIS) "," PARIS_IS,
     true},
    {"nested_arguments",
     U("Go.") "," CALLS("", CALL("call_n1e2s3t4", "weather",
                                 "{\"city\":{\"name\":\"\u017b\u00f3\u0142\","
                                 "\"at\":[1,2.5,true,null]},\"x\":\"a\\nb\"}")),
     true},
    {"arguments_as_text",
     U("Go.") "," CALLS("", CALL("call_t1e2x3t4", "weather",
                                 "\"{\\\"city\\\": \\\"Oslo\\\"}\"")),
     true},
    {"empty_arguments",
     U("Time?") "," CALLS("", CALL("call_n0n0n0n0", "now", "{}")), true},
    {"thought_and_call",
     U("Weather in Paris?") ",{\"role\":\"assistant\",\"reasoning_content\":"
                            "\"Look it "
                            "up.\",\"content\":\"\",\"tool_calls\":[" PARIS
                            "]}," PARIS_IS,
     true},
    {"thought_call_thought",
     U("Weather in Paris?") ",{\"role\":\"assistant\",\"reasoning_content\":"
                            "\"Look it "
                            "up.\",\"content\":\"\",\"tool_calls\":[" PARIS
                            "]}," PARIS_IS "," THOUGHT("Grey it is.", "Grey."),
     true},
    {"calls_of_an_old_turn",
     U("Weather in Paris?") "," CALLS("", PARIS) "," PARIS_IS "," THOUGHT(
         "Grey it is.", "Grey.") "," U("Thanks."),
     true},
};

const char *scenario_id(int i) { return bank[i].id; }

json_t *scenario_json(int i) {
    size_t room = strlen(bank[i].messages) + sizeof tools + 64;
    char *text = malloc(room);
    CHECK(text, "out of memory");
    snprintf(text, room, "{\"messages\":[%s]%s%s}", bank[i].messages,
             bank[i].tools ? ",\"tools\":" : "", bank[i].tools ? tools : "");
    json_t *j = json_loads(text, 0, NULL);
    CHECK(j, "scenario %s is not JSON", bank[i].id);
    free(text);
    return j;
}

bool scenario_asks(const json_t *scenario) {
    const json_t *m = json_object_get(scenario, "messages");
    const char *role = json_string_value(
        json_object_get(json_array_get(m, json_array_size(m) - 1), "role"));
    return !role || strcmp(role, "assistant") != 0;
}
