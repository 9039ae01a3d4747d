/*
 * render_family: the table of families: what a format writes, as facts.
 *
 * Names are tinker-cookbook's where it has the family. Strings are what the
 * models were trained with; a space too many is a mistake.
 */
#include "core/text/render_shape.h"

#include <string.h>

#define IM_ROLE \
    { \
        [ROLE_SYSTEM] = "<|im_start|>{role}\n", \
        [ROLE_USER] = "<|im_start|>{role}\n", \
        [ROLE_ASSISTANT] = "<|im_start|>{role}\n", \
        [ROLE_TOOL] = "<|im_start|>user\n", \
        [ROLE_DECLARE] = "<|im_start|>{role}\n", \
        [ROLE_OTHER] = "<|im_start|>{role}\n" \
    }

/* Qwen 3: the newline between messages belongs to the next header. */
#define QWEN3 \
    .shape = &shape_qwen3, .sep = "\n", .head = IM_ROLE, \
    .tail = ANY_ROLE("<|im_end|>"), \
    .result = {"<tool_response>\n", "\n</tool_response>"}, \
    .tools = TOOLS_JSON, .calls_style = CALLS_JSON, .stop = {"<|im_end|>"}
#define QWEN3_FRAME .think = {"<think>\n", "\n</think>\n\n"}
#define QWEN3_TAGS .think = {"<think>", "</think>"}

/* Its vision models: an output is one text, the tags are not framed. */
#define QWEN3_VL \
    .shape = &shape_xml, .sep = "\n", .head = IM_ROLE, \
    .tail = ANY_ROLE("<|im_end|>"), \
    .result = {"<tool_response>\n", "\n</tool_response>"}, QWEN3_TAGS, \
    .tools = TOOLS_JSON, .calls_style = CALLS_JSON, .stop = {"<|im_end|>"}

/* Qwen 3.5 and what descends from it: an output is one text. */
#define QWEN3_5 \
    .shape = &shape_xml, .sep = "\n", .head = IM_ROLE, \
    .tail = ANY_ROLE("<|im_end|>"), \
    .result = {"<tool_response>\n", "\n</tool_response>"}, \
    .think = {"<think>\n", "\n</think>\n\n"}, \
    .none = "<think>\n\n</think>\n\n", .tools = TOOLS_XML, \
    .calls_style = CALLS_XML, .stop = {"<|im_end|>"}
#define QWEN3_5_FLAGS \
    FAM_THINKS | FAM_GROUPS | FAM_TRIMS | FAM_TRIMS_PARTS | FAM_PARTS | \
        FAM_REOPENS
#define OPEN_5 "<think>\n"
#define CLOSED_5 "<think>\n\n</think>\n\n"
#define EFFORT_XHIGH \
    "Reasoning effort is set to xhigh. Please think carefully through the " \
    "task, validate key assumptions, consider plausible alternatives, and " \
    "prioritize correctness, consistency, and clarity in the final answer."
#define EFFORT_LOW \
    "Reasoning effort is set to low. Keep your thinking brief and focused, " \
    "moving directly to the conclusion without unnecessary elaboration."

/* Nemotron 3: its system message is always there. */
#define NEMOTRON3_ANY \
    .shape = &shape_xml, .sep = "\n", .head = IM_ROLE, \
    .tail = ANY_ROLE("<|im_end|>"), \
    .result = {"<tool_response>\n", "\n</tool_response>\n"}, \
    .none = "<think></think>", .none_when = NONE_MARKED, \
    .tools = TOOLS_XML_DECL, .calls_style = CALLS_XML, .stop = {"<|im_end|>"}
#define NEMOTRON3 NEMOTRON3_ANY, .think = {"<think>\n", "\n</think>\n"}
#define NEMOTRON3_ULTRA NEMOTRON3_ANY, .think = {"<think>\n", "</think>"}
#define NEMOTRON3_FLAGS \
    FAM_THINKS | FAM_GROUPS | FAM_SYSTEM | FAM_TRIMS | FAM_PARTS | FAM_REOPENS

#define DS_CALLS \
    { \
        "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", \
            "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>" \
    }
#define DEEPSEEK3 \
    .shape = &shape_deepseek3, .bos = "<｜begin▁of▁sentence｜>", \
    .head = {[ROLE_SYSTEM] = "", \
             [ROLE_USER] = "<｜User｜>", \
             [ROLE_ASSISTANT] = "<｜Assistant｜>", \
             [ROLE_TOOL] = "<｜tool▁output▁begin｜>"}, \
    .tail = {[ROLE_ASSISTANT] = "<｜end▁of▁sentence｜>", \
             [ROLE_TOOL] = "<｜tool▁output▁end｜>"}, \
    .think = {"<think>", "</think>"}, .tools = TOOLS_DEEPSEEK3, \
    .calls_style = CALLS_TOKENS, .calls = DS_CALLS, \
    .stop = {"<｜end▁of▁sentence｜>"}

#define DEEPSEEK4_1 \
    .shape = &shape_deepseek4, .bos = "<｜begin▁of▁sentence｜>", \
    .head = {[ROLE_SYSTEM] = "<｜System｜>", \
             [ROLE_USER] = "<｜User｜>", \
             [ROLE_ASSISTANT] = "<｜Assistant｜>", \
             [ROLE_TOOL] = "<｜User｜>", \
             [ROLE_DECLARE] = ""}, \
    .tail = {[ROLE_ASSISTANT] = "<｜end▁of▁sentence｜>"}, \
    .result = {"<tool_result>", "</tool_result>"}, \
    .think = {"<think>", "</think>"}, .tools = TOOLS_DSML, \
    .calls_style = CALLS_DSML, .stop = {"<｜end▁of▁sentence｜>"}
#define EFFORT_4(n) \
    "<｜System｜>Reasoning Effort: " n \
    " (range 1-100, the higher the value, the more thorough the " \
    "reasoning)\n\n"

#define GLM_ROLES \
    { \
        [ROLE_SYSTEM] = "<|system|>", [ROLE_USER] = "<|user|>", \
        [ROLE_ASSISTANT] = "<|assistant|>", [ROLE_TOOL] = "<|observation|>" \
    }
#define GLM5 \
    .shape = &shape_glm, .head = GLM_ROLES, \
    .result = {"<tool_response>", "</tool_response>"}, .open = "<think>", \
    .think = {"<think>", "</think>"}, .none = "<think></think>", \
    .tools = TOOLS_GLM, .calls_style = CALLS_ARG_KEY, \
    .stop = {"<|user|>", "<|observation|>", "<|endoftext|>"}
#define GLM5_3(effort) .bos = "[gMASK]<sop><|system|>Reasoning Effort: " effort

#define KIMI_ANY \
    .shape = &shape_kimi, \
    .head = {[ROLE_SYSTEM] = "<|im_system|>{role}<|im_middle|>", \
             [ROLE_USER] = "<|im_user|>{role}<|im_middle|>", \
             [ROLE_ASSISTANT] = "<|im_assistant|>{role}<|im_middle|>", \
             [ROLE_TOOL] = "<|im_system|>{name}<|im_middle|>" \
                           "## Return of {id}\n", \
             [ROLE_DECLARE] = "<|im_system|>{role}<|im_middle|>", \
             [ROLE_OTHER] = "<|im_system|>{role}<|im_middle|>"}, \
    .tail = ANY_ROLE("<|im_end|>"), .think = {"<think>", "</think>"}, \
    .none = "<think></think>", .name_none = "tool", \
    .system = "You are Kimi, an AI assistant created by Moonshot AI.", \
    .calls_style = CALLS_IDS, \
    .calls = {"<|tool_calls_section_begin|>", "<|tool_call_begin|>", \
              "<|tool_call_argument_begin|>", "<|tool_call_end|>", \
              "<|tool_calls_section_end|>"}, \
    .stop = {"<|im_end|>"}
#define KIMI_K2 KIMI_ANY, .tools = TOOLS_KIMI_JSON
#define KIMI_K25 KIMI_ANY, .tools = TOOLS_KIMI_TS

#define GPT_OSS \
    .shape = &shape_harmony, \
    .head = {[ROLE_SYSTEM] = "<|start|>developer", \
             [ROLE_USER] = "<|start|>{role}", \
             [ROLE_ASSISTANT] = "<|start|>{role}", \
             [ROLE_TOOL] = "<|start|>{name} to=assistant", \
             [ROLE_DECLARE] = "<|start|>{role}", \
             [ROLE_BUILTIN] = "<|start|>system", \
             [ROLE_OTHER] = "<|start|>{role}"}, \
    .name_head = "functions.", .name_none = "functions.unknown", \
    .tools = TOOLS_HARMONY, .calls_style = CALLS_TOKENS, \
    .calls = {"", " to=functions.", \
              "<|channel|>commentary <|constrain|>json<|message|>", \
              "<|call|>", ""}, \
    .calls_sep = "<|start|>assistant", .stop = {"<|return|>", "<|call|>"}
#define QWEN2_SYSTEM \
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

#define NO_TOOL_ROLES(system_, user_, assistant_) \
    { \
        [ROLE_SYSTEM] = system_, [ROLE_USER] = user_, \
        [ROLE_ASSISTANT] = assistant_ \
    }
#define GEMMA_HEAD(system) \
    NO_TOOL_ROLES(system, "<start_of_turn>user\n", "<start_of_turn>model\n")

#define GEMMA4 \
    .shape = &shape_gemma4, .bos = "<bos>", \
    .head = ANY_ROLE("<|turn>{role}\n"), .tail = ANY_ROLE("<turn|>"), \
    .think = {"<|channel>thought\n", "\n<channel|>"}, .tools = TOOLS_GEMMA4, \
    .calls_style = CALLS_GEMMA4, .stop = {"<turn|>", "<|tool_response>"}

static const struct family families[] = {
    {.name = "role_colon",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS | FAM_COLON,
     .bos = BOS_TOKEN,
     .head = ANY_ROLE("{role}:"),
     .tail = ANY_ROLE("\n\n"),
     .stop_string = "\n\nUser:"},
    {.name = "llama3",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS,
     .bos = "<|begin_of_text|>",
     .head = ANY_ROLE("<|start_header_id|>{role}<|end_header_id|>\n\n"),
     .tail = ANY_ROLE("<|eot_id|>"),
     .stop = {"<|eot_id|>"}},
    {.name = "chatml",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS,
     .head = IM_ROLE,
     .tail = ANY_ROLE("<|im_end|>\n"),
     .result = {"<tool_response>\n", "\n</tool_response>"},
     .tools = TOOLS_JSON,
     .calls_style = CALLS_JSON,
     .stop = {"<|im_end|>"}},
    {.name = "qwen2_5",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS | FAM_GROUPS,
     .head = IM_ROLE,
     .tail = ANY_ROLE("<|im_end|>\n"),
     .result = {"<tool_response>\n", "\n</tool_response>"},
     .system = QWEN2_SYSTEM,
     .tools = TOOLS_JSON,
     .calls_style = CALLS_JSON,
     .stop = {"<|im_end|>"}},

    {.name = "qwen3",
     QWEN3,
     QWEN3_FRAME,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_JOINS},
    {.name = "qwen3_disable_thinking",
     QWEN3,
     QWEN3_FRAME,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_CLOSED | FAM_PARTS | FAM_JOINS,
     .open = CLOSED_5},
    {.name = "qwen3_instruct",
     QWEN3,
     QWEN3_TAGS,
     .flags = FAM_STRIPS | FAM_EXTENDS | FAM_PARTS | FAM_AS_SAID | FAM_JOINS},
    {.name = "qwen3_vl",
     QWEN3_VL,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_JOINS},
    {.name = "qwen3_vl_instruct",
     QWEN3_VL,
     .flags = FAM_STRIPS | FAM_PARTS | FAM_AS_SAID | FAM_JOINS},
    {.name = "qwen3_5",
     QWEN3_5,
     .flags = QWEN3_5_FLAGS | FAM_STRIPS,
     .open = OPEN_5,
     .none_when = NONE_CURRENT},
    {.name = "qwen3_5_disable_thinking",
     QWEN3_5,
     .flags = QWEN3_5_FLAGS | FAM_STRIPS | FAM_CLOSED,
     .open = CLOSED_5,
     .none_when = NONE_CURRENT},
    {.name = "qwen3_5_preserve_thinking",
     QWEN3_5,
     .flags = QWEN3_5_FLAGS,
     .open = OPEN_5,
     .none_when = NONE_CURRENT},
    {.name = "qwen3_8_xhigh_reasoning",
     QWEN3_5,
     .flags = QWEN3_5_FLAGS,
     .open = OPEN_5,
     .none_when = NONE_EVER,
     .values = VALUES_JSON,
     .effort = EFFORT_XHIGH},
    {.name = "qwen3_8_medium_reasoning",
     QWEN3_5,
     .flags = QWEN3_5_FLAGS,
     .open = OPEN_5,
     .none_when = NONE_EVER,
     .values = VALUES_JSON},
    {.name = "qwen3_8_low_reasoning",
     QWEN3_5,
     .flags = QWEN3_5_FLAGS,
     .open = OPEN_5,
     .none_when = NONE_EVER,
     .values = VALUES_JSON,
     .effort = EFFORT_LOW},
    {.name = "qwen3_8_disable_thinking",
     QWEN3_5,
     .flags = QWEN3_5_FLAGS | FAM_CLOSED,
     .open = CLOSED_5,
     .none_when = NONE_EVER,
     .values = VALUES_JSON},

    {.name = "deepseekv3",
     DEEPSEEK3,
     .flags = FAM_STRIPS | FAM_EXTENDS | FAM_PARTS},
    {.name = "deepseekv3_disable_thinking",
     DEEPSEEK3,
     .flags = FAM_STRIPS | FAM_EXTENDS | FAM_PARTS},
    {.name = "deepseekv3_thinking",
     DEEPSEEK3,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS,
     .open = "<think>"},
    {.name = "deepseekv4_1",
     DEEPSEEK4_1,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS,
     .effort = EFFORT_4("75")},
    {.name = "deepseekv4_1_low_reasoning",
     DEEPSEEK4_1,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS,
     .effort = EFFORT_4("50")},
    {.name = "deepseekv4_1_max_reasoning",
     DEEPSEEK4_1,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS,
     .effort = EFFORT_4("100")},
    {.name = "deepseekv4_1_preserve_thinking",
     DEEPSEEK4_1,
     .flags = FAM_THINKS | FAM_EXTENDS | FAM_PARTS | FAM_REOPENS,
     .effort = EFFORT_4("75")},
    {.name = "deepseekv4_1_disable_thinking",
     DEEPSEEK4_1,
     .flags = FAM_STRIPS | FAM_EXTENDS | FAM_PARTS},

    {.name = "glm5_3_max_reasoning",
     GLM5,
     GLM5_3("Max"),
     .flags = FAM_THINKS | FAM_EXTENDS | FAM_PARTS | FAM_REOPENS},
    {.name = "glm5_3_high_reasoning",
     GLM5,
     GLM5_3("High"),
     .flags = FAM_THINKS | FAM_EXTENDS | FAM_PARTS | FAM_REOPENS},
    {.name = "glm5_3_low_reasoning",
     GLM5,
     GLM5_3("Low"),
     .flags = FAM_THINKS | FAM_EXTENDS | FAM_PARTS | FAM_REOPENS},

    {.name = "kimi_k2", KIMI_K2, .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS},
    {.name = "kimi_k25",
     KIMI_K25,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS,
     .open = "<think>"},
    {.name = "kimi_k25_disable_thinking",
     KIMI_K25,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_CLOSED | FAM_PARTS | FAM_REOPENS,
     .open = "<think></think>"},
    {.name = "kimi_k26",
     KIMI_K25,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS,
     .open = "<think>"},
    {.name = "kimi_k26_disable_thinking",
     KIMI_K25,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_CLOSED | FAM_PARTS | FAM_REOPENS,
     .open = "<think></think>"},
    {.name = "kimi_k26_preserve_thinking",
     KIMI_K25,
     .flags = FAM_THINKS | FAM_PARTS | FAM_REOPENS,
     .open = "<think>"},

    {.name = "nemotron3",
     NEMOTRON3,
     .flags = NEMOTRON3_FLAGS | FAM_STRIPS,
     .open = OPEN_5},
    {.name = "nemotron3_low_thinking",
     NEMOTRON3,
     .flags = NEMOTRON3_FLAGS | FAM_STRIPS,
     .open = OPEN_5,
     .hint = "\n\n{reasoning effort: low}"},
    {.name = "nemotron3_disable_thinking",
     NEMOTRON3,
     .flags = NEMOTRON3_FLAGS | FAM_STRIPS | FAM_CLOSED,
     .open = "<think></think>"},
    {.name = "nemotron3_preserve_thinking",
     NEMOTRON3,
     .flags = NEMOTRON3_FLAGS | FAM_EXTENDS,
     .open = OPEN_5},
    {.name = "nemotron3_ultra",
     NEMOTRON3_ULTRA,
     .flags = NEMOTRON3_FLAGS | FAM_STRIPS,
     .open = OPEN_5},
    {.name = "nemotron3_ultra_medium_thinking",
     NEMOTRON3_ULTRA,
     .flags = NEMOTRON3_FLAGS | FAM_STRIPS,
     .open = OPEN_5,
     .hint = "\n\n{reasoning effort: efficient}"},
    {.name = "nemotron3_ultra_disable_thinking",
     NEMOTRON3_ULTRA,
     .flags = NEMOTRON3_FLAGS | FAM_STRIPS | FAM_CLOSED,
     .open = "<think></think>"},
    {.name = "nemotron3_ultra_preserve_thinking",
     NEMOTRON3_ULTRA,
     .flags = NEMOTRON3_FLAGS | FAM_EXTENDS,
     .open = OPEN_5},

    /* ---- what the cookbook does not have: by the models' own templates. The
     * newline between two messages belongs to the header behind it. ---- */
    {.name = "gemma",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS | FAM_TRIMS,
     .bos = "<bos>",
     .sep = "\n",
     .head = GEMMA_HEAD(NULL),
     .tail = ANY_ROLE("<end_of_turn>"),
     .stop = {"<end_of_turn>"}},
    {.name = "gemma3",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS | FAM_TRIMS | FAM_FOLDS,
     .bos = "<bos>",
     .sep = "\n",
     .head = GEMMA_HEAD(NULL),
     .tail = ANY_ROLE("<end_of_turn>"),
     .stop = {"<end_of_turn>"}},
    {.name = "gemma4", GEMMA4, .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS},
    {.name = "gemma4_thinking",
     GEMMA4,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS,
     .hint = "<|think|>\n"},
    {.name = "mistral",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS,
     .bos = "<s>",
     .head = {[ROLE_SYSTEM] = "[SYSTEM_PROMPT]",
              [ROLE_USER] = "[INST]",
              [ROLE_ASSISTANT] = "",
              [ROLE_TOOL] = "[TOOL_RESULTS]",
              [ROLE_DECLARE] = "[AVAILABLE_TOOLS]"},
     .tail = {[ROLE_SYSTEM] = "[/SYSTEM_PROMPT]",
              [ROLE_USER] = "[/INST]",
              [ROLE_ASSISTANT] = "</s>",
              [ROLE_TOOL] = "[/TOOL_RESULTS]",
              [ROLE_DECLARE] = "[/AVAILABLE_TOOLS]"},
     .tools = TOOLS_MISTRAL,
     .calls_style = CALLS_TOKENS,
     .calls = {"", "[TOOL_CALLS]", "[ARGS]", "", ""},
     .stop = {"</s>"}},
    {.name = "phi3",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS,
     .sep = "\n",
     .head = NO_TOOL_ROLES("<|system|>\n", "<|user|>\n", "<|assistant|>\n"),
     .tail = ANY_ROLE("<|end|>"),
     .stop = {"<|end|>"}},
    {.name = "phi4",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS,
     .head = NO_TOOL_ROLES("<|im_start|>system<|im_sep|>",
                           "<|im_start|>user<|im_sep|>",
                           "<|im_start|>assistant<|im_sep|>"),
     .tail = ANY_ROLE("<|im_end|>"),
     .stop = {"<|im_end|>"}},
    {.name = "phi4_mini",
     .shape = &shape_plain,
     .flags = FAM_EXTENDS,
     .head = NO_TOOL_ROLES("<|system|>", "<|user|>", "<|assistant|>"),
     .tail = ANY_ROLE("<|end|>"),
     .stop = {"<|end|>"}},
    {.name = "glm4",
     .shape = &shape_glm,
     .flags = FAM_EXTENDS,
     .bos = "[gMASK]<sop>",
     .head = GLM_ROLES,
     .lead = "\n",
     .stop = {"<|user|>", "<|observation|>", "<|endoftext|>"}},
    {.name = "glm5",
     GLM5,
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS,
     .bos = "[gMASK]<sop>",
     .none_when = NONE_CURRENT},
    {.name = "glm5_preserve_thinking",
     GLM5,
     .flags = FAM_THINKS | FAM_EXTENDS | FAM_PARTS | FAM_REOPENS,
     .bos = "[gMASK]<sop>"},
    {.name = "glm5_2",
     GLM5,
     GLM5_3("Max"),
     .flags = FAM_THINKS | FAM_STRIPS | FAM_PARTS | FAM_REOPENS},
    {.name = "glm5_2_preserve_thinking",
     GLM5,
     GLM5_3("Max"),
     .flags = FAM_THINKS | FAM_EXTENDS | FAM_PARTS | FAM_REOPENS},
    {.name = "kimi_k27_code",
     KIMI_K25,
     .flags = FAM_THINKS | FAM_PARTS | FAM_REOPENS,
     .open = "<think>"},

    {.name = "gpt_oss_no_sysprompt", GPT_OSS, .flags = FAM_THINKS | FAM_PARTS},
    {.name = "gpt_oss_low_reasoning",
     GPT_OSS,
     .flags = FAM_THINKS | FAM_PARTS,
     .effort = "low"},
    {.name = "gpt_oss_medium_reasoning",
     GPT_OSS,
     .flags = FAM_THINKS | FAM_PARTS,
     .effort = "medium"},
    {.name = "gpt_oss_high_reasoning",
     GPT_OSS,
     .flags = FAM_THINKS | FAM_PARTS,
     .effort = "high"},
};
#define N_FAMILIES (sizeof families / sizeof *families)

const struct family *family_at(size_t i) {
    return i < N_FAMILIES ? &families[i] : NULL;
}

const struct family *family_find(const char *name) {
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i].name, name) == 0)
            return &families[i];
    return NULL;
}

/* ---- what fits a model ---- */

/* The first row that fits: how the model's type begins, and a token that must
 * be there. Those of the same type that fit, too, are what else such a
 * checkpoint may be, which its own chat template decides (render.c). */
static const struct {
    const char *type, *token, *name;
} guesses[] = {
    {"qwen3_vl", "<|im_start|>", "qwen3_vl"},
    {"qwen3_vl", "<|im_start|>", "qwen3_vl_instruct"},
    {"qwen3_5", "<|im_start|>", "qwen3_5"},
    {"qwen3_5", "<|im_start|>", "qwen3_5_disable_thinking"},
    {"qwen3_5", "<|im_start|>", "qwen3_8_xhigh_reasoning"},
    {"qwen3", "<think>", "qwen3"},
    {"qwen3", "<think>", "qwen3_instruct"},
    {"qwen3", "<|im_start|>", "qwen3_instruct"},
    {"qwen2", "<|im_start|>", "qwen2_5"},
    {"gpt_oss", "<|channel|>", "gpt_oss_medium_reasoning"},
    {"nemotron", "<|im_start|>", "nemotron3"},
    {"nemotron", "<|im_start|>", "nemotron3_ultra"},
    {"kimi", "<|im_middle|>", "kimi_k25"},
    {"kimi", "<|im_middle|>", "kimi_k26"},
    {"kimi", "<|im_middle|>", "kimi_k2"},
    {"kimi", "<|im_middle|>", "kimi_k27_code"},
    {"deepseek", "<｜System｜>", "deepseekv4_1"},
    {"deepseek", "<｜User｜>", "deepseekv3"},
    {"deepseek", "<｜User｜>", "deepseekv3_thinking"},
    {"glm_moe_dsa", "<sop>", "glm5_3_max_reasoning"},
    {"glm_moe_dsa", "<sop>", "glm5"},
    {"glm_moe_dsa", "<sop>", "glm5_2"},
    {"glm4", "<sop>", "glm4"},
    {"gemma4", "<|turn>", "gemma4"},
    {"gemma4", "<|turn>", "gemma4_thinking"},
    {"gemma3", "<start_of_turn>", "gemma3"},
    {"gemma", "<start_of_turn>", "gemma"},
    {"mistral", "[SYSTEM_PROMPT]", "mistral"},
    {"ministral", "[SYSTEM_PROMPT]", "mistral"},
    {"phi3", "<|im_sep|>", "phi4"},
    {"phi3", "<|assistant|>", "phi3"},
    {"", "<|start_header_id|>", "llama3"},
    {"", "<|im_start|>", "chatml"},
};

#define N_GUESSES (sizeof guesses / sizeof *guesses)

static bool guess_fits(size_t i, const char *type, const struct tok *t) {
    return strncmp(type, guesses[i].type, strlen(guesses[i].type)) == 0 &&
           tok_find(t, guesses[i].token) >= 0;
}

const char *family_guess(const char *model_type, const struct tok *t, int nth) {
    size_t first = 0;
    while (first < N_GUESSES && !guess_fits(first, model_type, t))
        first++;
    if (first == N_GUESSES)
        return nth == 0 ? "role_colon" : NULL;
    for (size_t i = first; i < N_GUESSES; i++)
        if (strcmp(guesses[i].type, guesses[first].type) == 0 &&
            guess_fits(i, model_type, t) && nth-- == 0)
            return guesses[i].name;
    return NULL;
}
