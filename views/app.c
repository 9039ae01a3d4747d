/*
 * app: the frame around the views: header, message, hints, prompt, sheets;
 * commands by one table.
 */
#include "views/app_int.h"

#include "core/clock.h"
#include "core/fs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define APP_MIN_W 40
#define APP_MIN_H 10

static const struct view *const views[VIEWS] = {
    [VIEW_JOBS] = &view_jobs,     [VIEW_RUN] = &view_run,
    [VIEW_CKPT] = &view_ckpt,     [VIEW_SAMPLES] = &view_samples,
    [VIEW_CHAT] = &view_chat,     [VIEW_DEPLOY] = &view_deploy,
    [VIEW_MODELS] = &view_models, [VIEW_ROWS] = &view_rows,
    [VIEW_PARITY] = &view_parity,
};

const struct view *app_view(enum view_id v) { return views[v]; }

int64_t app_now(const struct app *a) { return a->loop ? loop_now(a->loop) : 0; }

void app_say(struct app *a, enum role role, const char *text) {
    message_set(&a->msg, app_now(a), role, "%s", text);
}

void app_go(struct app *a, enum view_id v) {
    if (v == a->view)
        return;
    if (a->n_back == 16)
        memmove(a->back, a->back + 1, sizeof a->back - sizeof *a->back),
            a->n_back--;
    a->back[a->n_back++] = a->view;
    a->view = v;
    list_select(a->jobs, a->run); /* looked at: newer runs do not replace it */
    a->typing = v == VIEW_CHAT && *a->target;
    list_sync(a->ckpts);
}

void app_open_run(struct app *a, int64_t run) {
    a->run = run;
    chart_fit(a->chart);
    app_go(a, VIEW_RUN);
}

/* ---- asking ---- */

static void ask(struct app *a, struct sheet *sh, const struct act *act,
                int name_field) {
    if (!sh) {
        app_say(a, ROLE_BAD, "not enough memory to ask");
        return;
    }
    a->sheet = sh;
    a->act = *act;
    a->name_field = name_field;
}

static const struct store_run *run_here(const struct app *a) {
    const struct job_row *j = job_of(a->snap, a->run);
    return j ? j->run : NULL;
}

/* What Z resumes; its context lies before the view's own. */
static bool is_resumable(const struct app *a) {
    const struct store_run *r = run_here(a);
    return r && (r->state == STORE_RUN_PAUSED || r->state == STORE_RUN_FAILED);
}

/* The contexts whose keys mean something now; how many. */
static int key_path(const struct app *a, const char *path[APP_PATH_MAX]) {
    bool has_run = a->view == VIEW_JOBS || a->view == VIEW_RUN;
    int n = 0;
    if (has_run && is_resumable(a))
        path[n++] = "stopped";
    path[n++] = app_view(a->view)->context;
    path[n++] = "global";
    return n;
}

static void ask_run(struct app *a, enum act_kind kind, const char *what,
                    const char *effect, const char *undo, const char *verb) {
    const struct store_run *r = run_here(a);
    char title[320], cmd[64];
    if (!r)
        return;
    snprintf(title, sizeof title, "%s %s", what, r->name);
    snprintf(cmd, sizeof cmd, "fettle %s %lld", verb, (long long)r->id);
    struct sheet *sh = sheet_new(title, what);
    if (sh) {
        sheet_row(sh, "effect", ROLE_TEXT, effect);
        sheet_row(sh, "undo", ROLE_TEXT, undo);
        sheet_row(sh, "same as", ROLE_DIM, cmd);
    }
    ask(a, sh, &(struct act){.kind = kind, .run = r->id}, -1);
}

static void cmd_pause(void *arg, const char *args) {
    (void)args;
    ask_run(arg, ACT_PAUSE, "Pause",
            "the steps in flight finish, then none "
            "is submitted",
            "Z again", "pause");
}

static void cmd_resume(void *arg, const char *args) {
    (void)args;
    ask_run(arg, ACT_RESUME, "Resume", "training goes on where it stopped",
            "Z again", "resume");
}

static void cmd_kill(void *arg, const char *args) {
    (void)args;
    ask_run(arg, ACT_KILL, "Stop", "the run ends now; its checkpoints stay",
            "none: start a new run", "kill");
}

static void ask_name(struct app *a, enum act_kind kind, const char *what,
                     const char *ckpt, const char *name, const char *effect) {
    char title[320], cmd[320];
    snprintf(title, sizeof title, "%s %s", what, ckpt);
    snprintf(cmd, sizeof cmd, "fettle %s %s NAME",
             kind == ACT_PROMOTE ? "promote" : "deploy", ckpt);
    struct sheet *sh = sheet_new(title, what);
    int field = sh ? sheet_field(sh, "name", name) : -1;
    if (sh) {
        sheet_row(sh, "effect", ROLE_TEXT, effect);
        sheet_row(sh, "undo", ROLE_TEXT,
                  kind == ACT_PROMOTE ? "promote the former one again"
                                      : "undeploy, or deploy the former one");
        sheet_row(sh, "same as", ROLE_DIM, cmd);
    }
    struct act act = {.kind = kind};
    snprintf(act.target, sizeof act.target, "%s", ckpt);
    ask(a, sh, &act, field < 0 ? 0 : field);
}

static const char *no_ckpt(void *arg) {
    return ckpt_selected(arg) ? NULL : "no checkpoint is selected";
}
static const char *no_deploy(void *arg) {
    return deploy_selected(arg) ? NULL : "no deployment is selected";
}
static const char *no_run(void *arg) {
    const struct store_run *r = run_here(arg);
    if (!r)
        return "no run is selected";
    return r->state > STORE_RUN_PAUSED ? "the run is over" : NULL;
}
static const char *no_pause(void *arg) {
    return is_resumable(arg) ? "the run stands still: Z resumes it"
                             : no_run(arg);
}
static const char *no_resume(void *arg) {
    return is_resumable(arg) ? NULL : "the run is neither paused nor failed";
}

static void cmd_promote(void *arg, const char *args) {
    struct app *a = arg;
    const struct store_ckpt *k = ckpt_selected(a);
    ask_name(a, ACT_PROMOTE, "Promote", k->id, args,
             "the name means this checkpoint from now on");
}

static void cmd_deploy(void *arg, const char *args) {
    struct app *a = arg;
    const struct store_ckpt *k = ckpt_selected(a);
    char first[STORE_NAME_MAX];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(k->promoted, " "),
             k->promoted);
    ask_name(a, ACT_DEPLOY, "Deploy", k->id, *args ? args : first,
             "answers chats and /v1 requests under the name");
}

static void cmd_ckpt_chat(void *arg, const char *args) {
    (void)args;
    chat_open(arg, ckpt_selected(arg)->id);
}

static void cmd_deploy_chat(void *arg, const char *args) {
    (void)args;
    chat_open(arg, deploy_selected(arg)->name);
}

static void cmd_chat(void *arg, const char *args) {
    if (*args)
        chat_open(arg, args);
    else
        app_go(arg, VIEW_CHAT);
}

static const char *no_target(void *arg) {
    const struct app *a = arg;
    return *a->target ? NULL
                      : "nobody to talk to: C on a checkpoint or deployment";
}

static void cmd_chat_type(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    app_go(a, VIEW_CHAT);
    a->typing = true;
}

static void cmd_chat_new(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    chat_new(a);
    cmd_chat_type(a, "");
}

static void cmd_chat_stop(void *arg, const char *args) {
    (void)args;
    chat_stop(arg);
}

static void cmd_ckpt_rm(void *arg, const char *args) {
    struct app *a = arg;
    const struct store_ckpt *k = ckpt_selected(a);
    char title[320], cmd[320];
    (void)args;
    snprintf(title, sizeof title, "Delete %s", k->id);
    snprintf(cmd, sizeof cmd, "fettle ckpt rm %s", k->id);
    struct sheet *sh = sheet_new(title, "Delete");
    if (sh) {
        sheet_row(sh, "effect", ROLE_BAD, "its files are removed");
        sheet_row(sh, "undo", ROLE_TEXT, "none");
        sheet_row(sh, "same as", ROLE_DIM, cmd);
        sheet_type(sh, k->name);
    }
    struct act act = {.kind = ACT_DELETE};
    snprintf(act.target, sizeof act.target, "%s", k->id);
    ask(a, sh, &act, -1);
}

static void cmd_undeploy(void *arg, const char *args) {
    struct app *a = arg;
    const struct store_deployment *d = deploy_selected(a);
    char title[320];
    (void)args;
    snprintf(title, sizeof title, "Undeploy %s", d->name);
    struct sheet *sh = sheet_new(title, "Undeploy");
    if (sh) {
        sheet_row(sh, "effect", ROLE_TEXT, "requests for the name are refused");
        sheet_row(sh, "undo", ROLE_TEXT, "deploy it again");
    }
    struct act act = {.kind = ACT_UNDEPLOY};
    snprintf(act.name, sizeof act.name, "%s", d->name);
    ask(a, sh, &act, -1);
}

/* ---- looking ---- */

static void go_jobs(void *a, const char *x) {
    (void)x;
    app_go(a, VIEW_JOBS);
}
static void go_run(void *a, const char *x) {
    (void)x;
    app_go(a, VIEW_RUN);
}
static void go_ckpt(void *a, const char *x) {
    (void)x;
    app_go(a, VIEW_CKPT);
}
static void go_samp(void *a, const char *x) {
    (void)x;
    app_go(a, VIEW_SAMPLES);
}
static void go_depl(void *a, const char *x) {
    (void)x;
    app_go(a, VIEW_DEPLOY);
}

static void go_models(void *a, const char *x) {
    (void)x;
    app_go(a, VIEW_MODELS);
}

/* ---- the inspector ---- */

static const char *no_model(void *arg) {
    return model_selected(arg) ? NULL : "no model is selected";
}

static const char *no_run_rows(void *arg) {
    const struct app *a = arg;
    return a->page.run ? NULL : "these are scenarios, of no file";
}

static void cmd_inspect_run(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    rows_open_run(a, a->run);
}

static void cmd_parity(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    list_sync(a->scenarios);
    list_select_row(a->scenarios, 0);
    app_go(a, VIEW_PARITY);
}

static void cmd_inspect_model(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    rows_open_model(a, model_selected(a)->model->name,
                    a->view == VIEW_PARITY ? scenario_selected(a) : 1);
}

static void cmd_open(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    if (list_id(a->jobs) > 0)
        app_open_run(a, list_id(a->jobs));
}

static void cmd_quit(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    a->stop = true;
    if (a->loop)
        loop_quit(a->loop, 0);
}

static void cmd_back(void *arg, const char *args) {
    struct app *a = arg;
    if (a->n_back == 0)
        cmd_quit(a, args);
    else
        a->view = a->back[--a->n_back];
}

static void cmd_help(void *arg, const char *args) {
    struct app *a = arg;
    int n = key_path(a, a->help_path);
    (void)args;
    a->finder = finder_help(a->keys, a->help_path, n, a);
}

static void cmd_palette(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    a->finder = finder_palette(app_cmds, app_n_cmds, a);
}

static void open_prompt(struct app *a, bool filter) {
    a->prompt_is_filter = filter;
    edit_prompt(a->prompt, filter ? "filter> " : ":");
    edit_set(a->prompt, filter ? a->filter : "");
    a->typing = false;
    a->stop = false;
}

static void cmd_prompt(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    if (!a->prompt)
        a->prompt = edit_new((struct edit_opts){.max = 1000});
    if (a->prompt)
        open_prompt(a, false);
}

static void cmd_row(void *arg, const char *args) {
    struct app *a = arg;
    char *end;
    long long row = strtoll(args, &end, 10);
    if (!*args) {
        cmd_prompt(a, "");
        if (a->prompt)
            edit_set(a->prompt, "row ");
    } else if (*end || row < 1) {
        app_say(a, ROLE_BAD, "row: a number from 1 on is wanted");
    } else {
        rows_go(a, row);
    }
}

static void cmd_filter(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    if (!a->prompt)
        a->prompt =
            edit_new((struct edit_opts){.max = 120, .keep_empty = true});
    if (a->prompt)
        open_prompt(a, true);
}

static void cmd_redraw(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    if (a->term)
        term_repaint(a->term);
}

static void cmd_suspend(void *arg, const char *args) {
    struct app *a = arg;
    (void)args;
    if (a->term)
        term_suspend(a->term);
}

/* Keys that the shown view takes itself, as commands, so that help, palette
 * and hints know of them. */
static void look(struct app *a, uint32_t key) {
    views[a->view]->key(a, &(struct ev){.kind = EV_KEY, .key = key});
}
#define LOOK(name, letter) \
    static void look_##name(void *a, const char *args) { \
        (void)args; \
        look(a, letter); \
    }
LOOK(next, 'j')
LOOK(previous, 'k')
LOOK(first, 'g')
LOOK(last, 'G')
LOOK(all, 'a')
LOOK(earlier, ',')
LOOK(later, '.')
LOOK(left, 'h')
LOOK(right, 'l')
LOOK(mark_left, '{')
LOOK(mark_right, '}')
LOOK(live, 't')
LOOK(zoom_in, '+')
LOOK(zoom_out, '-')
LOOK(fit, '0')
LOOK(pan_left, '<')
LOOK(pan_right, '>')
LOOK(scale, 'v')
LOOK(smooth, 'm')
LOOK(clip, 'o')
LOOK(follow, 'f')
LOOK(row_next, 'n')
LOOK(row_previous, 'p')
LOOK(page_down, KEY_PGDN)
LOOK(page_up, KEY_PGUP)
LOOK(shown_by, 'w')
LOOK(other_file, 'e')

#define GLOBAL "global"
#define LIST_ROWS(ctx) \
    {ctx ".next", "Next row", "the one below", "j Down", ctx, 0, \
     "",          NULL,       look_next}, \
        {ctx ".previous", \
         "Previous row", \
         "the one above", \
         "k Up", \
         ctx, \
         0, \
         "", \
         NULL, \
         look_previous}, \
        {ctx ".first", "First row", "the top", "g Home", ctx, 0, \
         "",           NULL,        look_first}, \
    { \
        ctx ".last", "Last row", "the bottom", "G End", ctx, CMD_MOTION, "", \
            NULL, look_last \
    }
const struct cmd app_cmds[] = {
    {"view.jobs", "Jobs", "all runs", "1", GLOBAL, 0, "", NULL, go_jobs},
    {"view.run", "Run", "curves, events and log of one run", "2", GLOBAL, 0, "",
     NULL, go_run},
    {"view.ckpt", "Checkpoints", "checkpoints of the run", "3", GLOBAL, 0, "",
     NULL, go_ckpt},
    {"view.samples", "Samples", "what the run wrote for its prompts", "4",
     GLOBAL, 0, "", NULL, go_samp},
    {"view.chat", "Chat", "talk to a checkpoint or deployment", "5", GLOBAL,
     CMD_ARGS, "", NULL, cmd_chat},
    {"view.deploy", "Deployments", "what is served", "6", GLOBAL, 0, "", NULL,
     go_depl},
    {"view.models", "Models", "and how each renders its chat format", "7",
     GLOBAL, 0, "", NULL, go_models},
    {"view.data", "Data", "the run's rows, token by token", "8", GLOBAL, 0, "",
     NULL, cmd_inspect_run},
    {"nav.back", "Back", "where you came from; quits at the start", "q Esc",
     GLOBAL, 0, "back", NULL, cmd_back},
    {"prompt.command", "Command line", "any command by name", ":", GLOBAL, 0,
     "cmd", NULL, cmd_prompt},
    {"palette", "Command palette", "search all commands", "C-p", GLOBAL, 0, "",
     NULL, cmd_palette},
    {"help", "Help", "keys and commands that work here", "? F1", GLOBAL, 0,
     "help", NULL, cmd_help},
    {"screen.redraw", "Redraw the screen", "paints everything again", "C-l",
     GLOBAL, 0, "", NULL, cmd_redraw},
    {"screen.suspend", "Suspend", "back to the shell; fg returns", "C-z",
     GLOBAL, 0, "", NULL, cmd_suspend},
    {"quit", "Quit", "leaves the screen; jobs go on", "F10 C-c", GLOBAL, 0, "",
     NULL, cmd_quit},
    {"run.resume", "Resume the run", "asks first", "Z", "stopped", CMD_MUTATES,
     "resume", no_resume, cmd_resume},
    {"run.open", "Open the run", "its curves, events and log", "Enter", "jobs",
     0, "open", NULL, cmd_open},
    {"jobs.filter", "Filter the runs", "words, state:…, cfg.KEY>=…", "/",
     "jobs", 0, "filter", NULL, cmd_filter},
    LIST_ROWS("jobs"),
    {"job.pause", "Pause the run", "asks first", "Z", "jobs", CMD_MUTATES,
     "pause", no_pause, cmd_pause},
    {"job.kill", "Stop the run", "asks first", "K", "jobs", CMD_MUTATES, "stop",
     no_run, cmd_kill},
    {"job.inspect", "Inspect the data", "its rows, token by token", "i", "jobs",
     0, "i data", NULL, cmd_inspect_run},
    {"run.pause", "Pause this run", "asks first", "Z", "run", CMD_MUTATES,
     "pause", no_pause, cmd_pause},
    {"run.kill", "Stop this run", "asks first", "K", "run", CMD_MUTATES, "stop",
     no_run, cmd_kill},
    {"run.left", "Crosshair left", "reads the values there", "h Left", "run", 0,
     "h/l read", NULL, look_left},
    {"run.right", "Crosshair right", "reads the values there", "l Right", "run",
     0, "", NULL, look_right},
    {"run.mark.left", "Checkpoint before", "crosshair to it", "{", "run", 0, "",
     NULL, look_mark_left},
    {"run.mark.right", "Checkpoint after", "crosshair to it", "}", "run", 0, "",
     NULL, look_mark_right},
    {"run.live", "Live", "no crosshair, the newest values", "t", "run", 0, "",
     NULL, look_live},
    {"run.scale", "Scale of the axis", "linear, logarithmic, symmetric", "v",
     "run", 0, "scale", NULL, look_scale},
    {"run.smooth", "Smoothing", "0, .6, .9, .97, .99", "m", "run", 0, "smooth",
     NULL, look_smooth},
    {"run.clip", "Clip outliers", "or show all points", "o", "run", 0, "", NULL,
     look_clip},
    {"run.zoom.in", "Zoom in", "around the crosshair", "+ =", "run", 0, "",
     NULL, look_zoom_in},
    {"run.zoom.out", "Zoom out", "around the crosshair", "-", "run", 0, "",
     NULL, look_zoom_out},
    {"run.fit", "Fit", "the whole run again", "0", "run", 0, "", NULL,
     look_fit},
    {"run.pan.left", "Pan left", "when zoomed", "<", "run", 0, "", NULL,
     look_pan_left},
    {"run.pan.right", "Pan right", "when zoomed", ">", "run", 0, "", NULL,
     look_pan_right},
    {"run.follow", "Follow the log", "or let it stand", "f", "run", 0, "", NULL,
     look_follow},
    {"run.inspect", "Inspect this run's data", "its rows, token by token", "i",
     "run", 0, "i data", NULL, cmd_inspect_run},
    LIST_ROWS("ckpt"),
    {"ckpt.all", "All runs", "or this run's checkpoints only", "a", "ckpt", 0,
     "", NULL, look_all},
    LIST_ROWS("samples"),
    {"samples.inspect", "Inspect what was trained", "rows, token by token", "i",
     "samples", 0, "i data", NULL, cmd_inspect_run},
    {"samples.earlier", "Earlier step", "moves B", ",", "samples", 0,
     ",/. step", NULL, look_earlier},
    {"samples.later", "Later step", "moves B", ".", "samples", 0, "", NULL,
     look_later},
    {"ckpt.promote", "Promote", "gives the checkpoint a name", "P", "ckpt",
     CMD_MUTATES | CMD_ARGS, "promote", no_ckpt, cmd_promote},
    {"ckpt.deploy", "Deploy", "serves the checkpoint under a name", "D", "ckpt",
     CMD_MUTATES | CMD_ARGS, "deploy", no_ckpt, cmd_deploy},
    {"ckpt.talk", "Chat with the checkpoint", "without deploying it", "C",
     "ckpt", CMD_MUTATES, "chat", no_ckpt, cmd_ckpt_chat},
    {"ckpt.delete", "Delete the checkpoint", "its name is typed first", "X",
     "ckpt", CMD_MUTATES | CMD_DESTRUCTIVE, "delete", no_ckpt, cmd_ckpt_rm},
    {"chat.type", "Type", "a question; Enter sends it", "i Enter", "chat", 0,
     "i type", no_target, cmd_chat_type},
    {"chat.new", "New talk", "forgets what was said", "n C-t", "chat", 0,
     "n new talk", no_target, cmd_chat_new},
    {"chat.stop", "Stop the answer", "what came of it stays", "C-x", "chat", 0,
     "", no_target, cmd_chat_stop},
    LIST_ROWS("models"),
    {"models.open", "Compare with the template", "scenario by scenario",
     "Enter", "models", 0, "scenarios", no_model, cmd_parity},
    {"models.inspect", "Inspect the scenarios", "token by token", "i", "models",
     0, "i tokens", no_model, cmd_inspect_model},
    LIST_ROWS("parity"),
    {"parity.inspect", "Inspect the scenario", "token by token", "i Enter",
     "parity", 0, "i tokens", no_model, cmd_inspect_model},
    {"rows.next", "Next row", "of the data", "n", "rows", 0, "n/p row", NULL,
     look_row_next},
    {"rows.previous", "Previous row", "of the data", "p", "rows", 0, "", NULL,
     look_row_previous},
    {"rows.row", "Row by number", "as :row 120 does", "r", "rows", CMD_ARGS,
     "r number", NULL, cmd_row},
    {"rows.by", "Text, ids or facts", "what a token is shown by", "w", "rows",
     0, "w text/ids/facts", NULL, look_shown_by},
    {"rows.file", "Data or eval_data", "which file of the run", "e", "rows", 0,
     "", no_run_rows, look_other_file},
    {"rows.down", "Scroll down", "a line of this row", "j Down", "rows", 0,
     "j/k scroll", NULL, look_next},
    {"rows.up", "Scroll up", "a line of this row", "k Up", "rows", 0, "", NULL,
     look_previous},
    {"rows.page.down", "Page down", "in this row", "Space PgDn C-f", "rows", 0,
     "", NULL, look_page_down},
    {"rows.page.up", "Page up", "in this row", "PgUp C-b", "rows", 0, "", NULL,
     look_page_up},
    {"rows.top", "Start of the row", "its first line", "g Home", "rows", 0, "",
     NULL, look_first},
    {"rows.end", "End of the row", "its last line", "G End", "rows", CMD_MOTION,
     "", NULL, look_last},
    LIST_ROWS("deploy"),
    {"deploy.talk", "Chat with the deployment", "as its users would", "C",
     "deploy", CMD_MUTATES, "chat", no_deploy, cmd_deploy_chat},
    {"deploy.undeploy", "Undeploy", "asks first", "U", "deploy", CMD_MUTATES,
     "undeploy", no_deploy, cmd_undeploy},
};
const int app_n_cmds = (int)(sizeof app_cmds / sizeof *app_cmds);

/* ---- drawing ---- */

static void header_right(const struct app *a, char *buf, size_t cap) {
    time_t now = (time_t)(a->wall_us / 1000000);
    struct tm tm;
    char alerts[24] = "";
    localtime_r(&now, &tm);
    if (a->snap->alerts.n)
        snprintf(alerts, sizeof alerts, "!%d  ", a->snap->alerts.n);
    snprintf(buf, cap, "%s%s%d run  %02d:%02d", alerts,
             a->snap->daemon ? "" : "no daemon  ",
             a->snap->counts[STORE_RUN_RUNNING], tm.tm_hour, tm.tm_min);
}

void app_draw(struct app *a, struct surf *s) {
    int w = surf_w(s), h = surf_h(s);
    const char *tabs[VIEW_TABS], *path[APP_PATH_MAX];
    char right[80];
    if (too_small_draw(s, APP_MIN_W, APP_MIN_H))
        return;
    for (int i = 0; i < VIEW_TABS; i++)
        tabs[i] = views[i]->tab;
    int tab = a->view == VIEW_PARITY ? VIEW_MODELS : (int)a->view;
    header_right(a, right, sizeof right);
    header_draw(s, 0, w, "fettle", tabs, VIEW_TABS, tab, right, 1);
    struct rect body = {0, 1, w, h - 3};
    struct rect old = surf_clip(s, body);
    if (*a->snap->error)
        surf_text(s, 0, 2, w, ROLE_BAD, a->snap->error);
    else
        views[a->view]->draw(a, s, body);
    surf_unclip(s, old);
    if (a->prompt)
        edit_draw(a->prompt, s, (struct rect){0, h - 2, w, 1}, true);
    else
        message_draw(&a->msg, s, 0, h - 2, w, app_now(a));
    if (a->view == VIEW_CHAT && a->typing)
        chat_hints(a, s, 1, h - 1, w - 1);
    else
        keymap_hints(a->keys, path, key_path(a, path), a, s, 0, h - 1, w, 2);
    if (a->sheet)
        sheet_draw(a->sheet, s, body);
    if (a->finder)
        finder_draw(a->finder, s, body);
}

/* ---- events ---- */

static void want(struct app *a) {
    struct want w;
    memset(&w, 0, sizeof w);
    w.run = a->run;
    w.dots = a->term ? 2 * term_caps(a->term)->w : 160;
    w.log = a->view == VIEW_RUN;
    w.parity = a->view == VIEW_MODELS || a->view == VIEW_PARITY;
    if (a->view == VIEW_ROWS)
        w.page = a->page;
    snprintf(w.filter, sizeof w.filter, "%s", a->filter);
    if (a->feed)
        feed_want(a->feed, &w);
}

static void run_cmd(struct app *a, const struct cmd *c, const char *args) {
    const char *why = c->enabled ? c->enabled(a) : NULL;
    if (why)
        app_say(a, ROLE_WARN, why);
    else
        c->run(a, args);
}

static void prompt_done(struct app *a) {
    char line[1024];
    const char *args;
    snprintf(line, sizeof line, "%s", edit_text(a->prompt));
    edit_free(a->prompt);
    a->prompt = NULL;
    if (a->prompt_is_filter) {
        snprintf(a->filter, sizeof a->filter, "%.127s", line);
        return;
    }
    if (strcmp(line, "q") == 0 || strcmp(line, "q!") == 0) {
        cmd_quit(a, "");
        return;
    }
    if (!*line)
        return;
    const struct cmd *c = cmd_parse(app_cmds, app_n_cmds, line, &args);
    if (c)
        run_cmd(a, c, args);
    else
        app_say(a, ROLE_BAD, "no such command (? lists them)");
}

static void sheet_done(struct app *a) {
    if (a->name_field >= 0) {
        struct err err = {0};
        const char *name = sheet_value(a->sheet, a->name_field);
        if (fs_check_name("name", name, &err) < 0) {
            sheet_error(a->sheet, err.msg);
            return;
        }
        snprintf(a->act.name, sizeof a->act.name, "%s", name);
    }
    sheet_free(a->sheet);
    a->sheet = NULL;
    app_say(a, ROLE_DIM, "working …");
    if (a->feed)
        feed_act(a->feed, &a->act);
}

/* What lies above the panes takes the event; true = it was there. */
static bool above(struct app *a, const struct ev *ev) {
    if (a->sheet) {
        enum popup_result r = sheet_event(a->sheet, ev);
        if (r == POPUP_DONE)
            sheet_done(a);
        else if (r == POPUP_CANCEL) {
            sheet_free(a->sheet);
            a->sheet = NULL;
        }
        return true;
    }
    if (a->finder) {
        enum popup_result r = finder_event(a->finder, ev);
        const struct cmd *c = r == POPUP_DONE ? finder_chosen(a->finder) : NULL;
        if (r != POPUP_OPEN) {
            finder_free(a->finder);
            a->finder = NULL;
        }
        if (c)
            run_cmd(a, c, "");
        return true;
    }
    if (a->prompt) {
        switch (edit_event(a->prompt, ev)) {
        case EDIT_DONE: prompt_done(a); break;
        case EDIT_CANCEL:
            edit_free(a->prompt);
            a->prompt = NULL;
            break;
        default: break;
        }
        return true;
    }
    return false;
}

static void on_key(struct app *a, const struct ev *ev) {
    const char *path[APP_PATH_MAX];
    enum km_state st;
    if (a->view == VIEW_CHAT && a->typing && views[VIEW_CHAT]->key(a, ev))
        return;
    const struct cmd *c =
        keymap_key(a->keys, path, key_path(a, path), ev->key, &st);
    if (st == KM_FOUND && c)
        run_cmd(a, c, "");
    else if (st == KM_NONE)
        views[a->view]->key(a, ev);
}

void app_event(struct app *a, const struct ev *ev) {
    if (ev->kind == EV_HANGUP) {
        cmd_quit(a, "");
        return;
    }
    if (ev->kind == EV_KEY && a->msg.role == ROLE_BAD)
        message_clear(&a->msg);
    if (ev->kind == EV_KEY || ev->kind == EV_PASTE) {
        if (!above(a, ev)) {
            if (ev->kind == EV_KEY)
                on_key(a, ev);
            else if (a->view == VIEW_CHAT && a->typing)
                views[VIEW_CHAT]->key(a, ev);
        }
    }
    want(a);
}

static void on_event(void *arg, const struct ev *ev) {
    struct app *a = arg;
    app_event(a, ev);
    loop_dirty(a->loop);
}

static void on_draw(void *arg, struct surf *s) {
    struct app *a = arg;
    a->wall_us = clock_wall_us();
    app_draw(a, s);
}

void app_snap(struct app *a, const struct snap *s) {
    bool is_first = !a->has_runs; /* the former one may be freed already */
    a->snap = s;
    a->has_runs = s->runs.n > 0;
    bool moved = list_sync(a->jobs);
    if (s->runs.n == 0)
        ; /* nothing yet, or the store is away for a moment */
    else if (is_first && a->run)
        list_select(a->jobs, a->run);
    else if (moved || a->run == 0)
        a->run = list_id(a->jobs);
    list_sync(a->ckpts);
    list_sync(a->deploys);
    list_sync(a->prompts);
    list_sync(a->models);
    list_sync(a->scenarios);
    rows_arrived(a);
}

static void on_feed(void *arg) {
    struct app *a = arg;
    struct act_result r;
    bool fresh;
    if (!a->feed) /* posted before it was closed, run by loop_free */
        return;
    const struct snap *s = feed_snap(a->feed, &fresh);
    app_snap(a, s);
    while (feed_result(a->feed, &r)) {
        if (r.kind == ACT_CHAT)
            chat_result(a, &r);
        else
            app_say(a, r.ok ? ROLE_OK : ROLE_BAD, r.text);
        free(r.text);
    }
    want(a);
    loop_dirty(a->loop);
}

static void on_wake(void *arg) {
    struct app *a = arg;
    loop_post(a->loop, on_feed, a);
}

static void on_minute(void *arg) {
    struct app *a = arg;
    loop_dirty(a->loop);
}

/* ---- life ---- */

int app_init(struct app *a, struct err *err) {
    static const struct snap nothing;
    a->snap = &nothing;
    a->keys = keymap_new(app_cmds, app_n_cmds);
    a->jobs = jobs_list(a);
    a->ckpts = ckpts_list(a);
    a->deploys = deploys_list(a);
    a->prompts = prompts_list(a);
    a->models = models_list(a);
    a->scenarios = scenarios_list(a);
    a->rows = rows_new();
    a->chart = chart_new();
    a->small = chart_new();
    a->log = text_new(1000);
    a->talk = text_new(5000);
    a->say = edit_new((struct edit_opts){
        .prompt = "> ", .multiline = true, .keep_empty = true});
    a->messages = json_array();
    a->sample_at = -1;
    buf_init(&a->answer, 1 << 20);
    if (a->keys && a->jobs && a->ckpts && a->deploys && a->prompts &&
        a->models && a->scenarios && a->rows && a->chart && a->small &&
        a->log && a->talk && a->say && a->messages)
        return 0;
    return err_set(err, ERR_NOMEM, "open the screen: out of memory");
}

void app_release(struct app *a) {
    sheet_free(a->sheet);
    finder_free(a->finder);
    edit_free(a->prompt);
    edit_free(a->say);
    text_free(a->log);
    text_free(a->talk);
    chart_free(a->chart);
    chart_free(a->small);
    list_free(a->jobs);
    list_free(a->ckpts);
    list_free(a->deploys);
    list_free(a->prompts);
    list_free(a->models);
    list_free(a->scenarios);
    rows_free(a->rows);
    keymap_free(a->keys);
    json_decref(a->messages);
    buf_release(&a->answer);
}

int app_run(const struct app_opts *o, struct err *err) {
    struct app *a = calloc(1, sizeof *a);
    char why[256];
    int rc = -1;
    CHECK(a, "out of memory for the screen");
    a->o = *o;
    if (app_init(a, err) < 0)
        goto out;
    a->term = term_open(&(struct term_opts){0}, why, sizeof why);
    if (!a->term) {
        err_set(err, ERR_UNAVAILABLE, "open the screen: %s", why);
        goto out;
    }
    a->glyphs = term_caps(a->term)->glyphs;
    chart_glyphs(a->chart, a->glyphs);
    chart_glyphs(a->small, a->glyphs);
    chart_mono(a->chart, term_caps(a->term)->color == COLOR_MONO);
    a->loop = loop_new(a->term);
    if (!a->loop) {
        err_set(err, ERR_NOMEM, "open the screen: out of memory");
        goto out;
    }
    loop_handlers(a->loop, (struct loop_handlers){on_event, on_draw, a});
    a->feed = feed_open(o->home, on_wake, a, err);
    if (!a->feed)
        goto out;
    a->run = o->run;
    a->view = o->run ? VIEW_RUN : VIEW_JOBS;
    want(a);
    loop_timer(a->loop, 20000, 20000, on_minute, a);
    loop_dirty(a->loop);
    loop_run(a->loop);
    rc = 0;
out:
    feed_close(a->feed);
    a->feed = NULL;
    loop_free(a->loop);
    term_close(a->term);
    app_release(a);
    free(a);
    return rc;
}
