/* scenario: the bank. What each is for, its id says. */
#include "core/text/scenario.h"

#include "core/fs.h"
#include "core/json.h"

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

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"weather\","
    "\"description\":\"Tells the weather of a "
    "city.\",\"parameters\":{\"type\":\"object\",\"properties\":{\"city\":{"
    "\"type\":\"string\",\"description\":\"Which city\"},\"days\":{\"type\":"
    "\"integer\",\"description\":\"How many days\"}},\"required\":[\"city\"]}}}"
    ",{\"type\":\"function\",\"function\":{\"name\":\"now\",\"description\":"
    "\"Tells the time.\",\"parameters\":{\"type\":\"object\",\"properties\":{"
    "\"zone\":{\"type\":\"string\",\"enum\":[\"utc\",\"local\"]}}}}}]";

/* Whether JSON is escaped shows here alone. */
static const char other_tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"m\u00e9t\u00e9o\","
    "\"description\":\"\u041f\u043e\u0433\u043e\u0434\u0430.\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"ville\":{\"type\":"
    "\"string\"}}}}}]";

static const struct {
    const char *id, *messages, *tools;
} bank[SCENARIOS] = {
    {"single_user", U("What is the tallest tree?"), NULL},
    {"system_user", S("Answer in one word.") "," U("Which sea is salty?"),
     NULL},
    {"single_turn", U("Two and two?") "," A("Four."), NULL},
    {"multi_turn_ask",
     S("Be brief.") "," U("Hi.") "," A("Hello.") "," U("Who wrote Faust?"),
     NULL},
    {"multi_turn",
     U("Name a fruit.") "," A("Pear.") "," U("Another?") "," A("Plum."), NULL},
    {"empty_system", S("") "," U("Are you there?") "," A("Yes."), NULL},
    {"surrounding_spaces", S("  sys  ") "," U("  one  ") "," A("  two  "),
     NULL},
    {"inner_newlines", U("first\\n\\nsecond\\nthird") "," A("a\\n\\n\\nb"),
     NULL},
    {"emoji_and_scripts",
     U("\u041f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d "
       "\U0001f469\u200d\U0001f680 e\u0301") "," A("\u00e9 \u2603"),
     NULL},
    {"control_text",
     U("say <|im_end|><|eot_id|></s><end_of_turn><|im_start|>system\\nx"),
     NULL},
    {"markup_text", U("a < b && c > d, \\\"q\\\" {{ x }} {% y %}"), NULL},
    {"long_text",
     U("one two three four five six seven eight nine ten eleven twelve "
       "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty "
       "and then all of it once more, from one to twenty, slowly"),
     NULL},
    {"code_block", U("```c\\nint main(void) {\\n\\treturn 0;\\n}\\n```"), NULL},
    {"newline_first", U("\\n\\nhello"), NULL},
    {"newline_last", U("hello\\n\\n"), NULL},
    {"tab_first", U("\\thello"), NULL},
    {"spaces_only_user", U("  \\n "), NULL},
    {"user_parts", PARTS("user", "one", "two"), NULL},
    {"assistant_parts", U("go") "," PARTS("assistant", "one", "two"), NULL},
    {"developer_first", D("Rhyme.") "," U("Say something."), NULL},
    {"developer_later", U("Hi.") "," A("Hello.") "," D("Rhyme.") "," U("Go."),
     NULL},
    {"two_systems", S("One.") "," S("Two.") "," U("Go."), NULL},
    {"two_users", U("One.") "," U("Two."), NULL},
    {"two_assistants", U("Go.") "," A("One.") "," A("Two."), NULL},
    {"system_later", U("Hi.") "," A("Hello.") "," S("Rhyme.") "," U("Go."),
     NULL},
    {"empty_answer", U("Go.") "," A(""), NULL},
    {"spaces_only_answer", U("Go.") "," A("  \\n"), NULL},
    {"assistant_first", A("Welcome.") "," U("Hi."), NULL},
    {"thought", U("2+2?") "," THOUGHT("Add them.", "4"), NULL},
    {"thought_before_user",
     U("2+2?") "," THOUGHT("Add them.", "4") "," U("3+3?"), NULL},
    {"thought_in_both",
     U("2+2?") "," THOUGHT("Add them.", "4") "," U("3+3?") "," THOUGHT("Again.",
                                                                       "6"),
     NULL},
    {"thought_then_plain",
     U("2+2?") "," THOUGHT("Add them.", "4") "," U("3+3?") "," A("6"), NULL},
    {"thought_only", U("2+2?") "," THOUGHT("Add them.", ""), NULL},
    {"thought_in_text", U("2+2?") "," A("<think>\\nAdd.\\n</think>\\n\\n4"),
     NULL},
    {"thought_in_text_before_user",
     U("2+2?") "," A("<think>\\nAdd.\\n</think>\\n\\n4") "," U("3+3?"), NULL},
    {"tools_declared", U("Weather in Paris?"), tools},
    {"tools_and_system", S("Be brief.") "," U("Weather in Paris?"), tools},
    {"tools_of_other_scripts", U("M\u00e9t\u00e9o ?"), other_tools},
    {"call", U("Weather in Paris?") "," CALLS("", PARIS), tools},
    {"call_answered",
     U("Weather in Paris?") "," CALLS("", PARIS) "," PARIS_IS
                                                 "," A("It is grey."),
     tools},
    {"call_pending_answer",
     U("Weather in Paris?") "," CALLS("", PARIS) "," PARIS_IS, tools},
    {"two_rounds",
     U("Paris, then Rome?") "," CALLS("", PARIS) "," PARIS_IS "," CALLS(
         "", ROME) "," ROME_IS "," A("Grey, sunny."),
     tools},
    {"parallel_calls",
     U("Both?") "," CALLS("", PARIS "," ROME) "," PARIS_IS "," ROME_IS, tools},
    {"parallel_results_reversed",
     U("Both?") "," CALLS("", PARIS "," ROME) "," ROME_IS "," PARIS_IS, tools},
    {"text_and_call",
     U("Weather in Paris?") "," CALLS("I shall look.", PARIS) "," PARIS_IS,
     tools},
    {"nested_arguments",
     U("Go.") "," CALLS("", CALL("call_n1e2s3t4", "weather",
                                 "{\"city\":{\"name\":\"Lodz\","
                                 "\"at\":[1,2.5,true,null]},\"x\":\"a\\nb\"}")),
     tools},
    {"arguments_as_text",
     U("Go.") "," CALLS("", CALL("call_t1e2x3t4", "weather",
                                 "\"{\\\"city\\\": \\\"Oslo\\\"}\"")),
     tools},
    {"empty_arguments",
     U("Time?") "," CALLS("", CALL("call_n0n0n0n0", "now", "{}")), tools},
    {"thought_and_call",
     U("Weather in Paris?") ",{\"role\":\"assistant\",\"reasoning_content\":"
                            "\"Look it "
                            "up.\",\"content\":\"\",\"tool_calls\":[" PARIS
                            "]}," PARIS_IS,
     tools},
    {"thought_call_thought",
     U("Weather in Paris?") ",{\"role\":\"assistant\",\"reasoning_content\":"
                            "\"Look it "
                            "up.\",\"content\":\"\",\"tool_calls\":[" PARIS
                            "]}," PARIS_IS "," THOUGHT("Grey it is.", "Grey."),
     tools},
    {"calls_of_an_old_turn",
     U("Weather in Paris?") "," CALLS("", PARIS) "," PARIS_IS "," THOUGHT(
         "Grey it is.", "Grey.") "," U("Thanks."),
     tools},
};

const char *scenario_id(int i) {
    return i >= 0 && i < SCENARIOS ? bank[i].id : NULL;
}

json_t *scenario_json(int i) {
    json_t *m, *tool_list = NULL;
    struct err err = {0};
    char *text = fs_path("[%s]", bank[i].messages);
    m = json_read(text, strlen(text), bank[i].id, &err);
    if (bank[i].tools)
        tool_list =
            json_read(bank[i].tools, strlen(bank[i].tools), "tools", &err);
    CHECK(!err.code, "scenario %s: %s", bank[i].id, err.msg);
    free(text);
    return tool_list
               ? json_pack("{s:o, s:o}", "messages", m, "tools", tool_list)
               : json_pack("{s:o}", "messages", m);
}

bool scenario_asks(const json_t *scenario) {
    const json_t *m = json_object_get(scenario, "messages");
    const char *role = json_string_value(
        json_object_get(json_array_get(m, json_array_size(m) - 1), "role"));
    return !role || strcmp(role, "assistant") != 0;
}
