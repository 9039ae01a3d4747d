/*
 * app_int - what the views share: the app, and how a view looks to it.
 *
 * Data come in by a->snap (immutable, swapped between frames); what a person
 * does goes out by act_*(): a sheet that asks, then the feed's actor.
 */
#ifndef FETTLE_VIEWS_APP_INT_H
#define FETTLE_VIEWS_APP_INT_H

#include "tui/cmd.h"
#include "tui/keymap.h"
#include "tui/loop.h"
#include "tui/term.h"
#include "tui/w_chart.h"
#include "tui/w_edit.h"
#include "tui/w_list.h"
#include "tui/w_popup.h"
#include "tui/w_spark.h"
#include "tui/w_status.h"
#include "tui/w_text.h"
#include "views/app.h"
#include "core/buf.h"
#include "views/feed.h"

#include <jansson.h>

enum view_id {
    VIEW_JOBS,
    VIEW_RUN,
    VIEW_CKPT,
    VIEW_SAMPLES,
    VIEW_CHAT,
    VIEW_DEPLOY,
    VIEW_MODELS,
    VIEW_ROWS,
    VIEW_PARITY, /* of one model; without a tab */
    VIEWS,
    VIEW_TABS = VIEW_PARITY
};

#define APP_PATH_MAX 3 /* contexts of keys, the innermost first */

struct app;

struct view {
    const char *tab;     /* "1:Jobs", NULL behind VIEW_TABS */
    const char *context; /* of its keys */
    void (*draw)(struct app *a, struct surf *s, struct rect r);
    /* Keys that no command takes. True = something changed. */
    bool (*key)(struct app *a, const struct ev *ev);
};
extern const struct view view_jobs, view_run, view_ckpt, view_samples,
    view_chat, view_deploy, view_models, view_rows, view_parity;

struct app {
    struct app_opts o;
    struct feed *feed;
    const struct snap *snap;
    struct term *term; /* NULL in tests */
    struct loop *loop;
    struct keymap *keys;
    enum glyphs glyphs;
    enum view_id view;
    enum view_id back[16]; /* where q leads */
    int n_back;
    struct message msg;
    bool stop;
    int64_t wall_us; /* the clock in the corner */
    /* above the panes, at most one */
    struct sheet *sheet;
    struct act act; /* what the sheet asks for */
    int name_field; /* field of the sheet that becomes act.name, -1 = none */
    struct finder *finder;
    const char *help_path[APP_PATH_MAX]; /* the finder borrows it */
    struct edit *prompt;
    bool prompt_is_filter;
    /* places */
    int64_t run;   /* in detail */
    bool has_runs; /* the snapshot shows any */
    struct list *jobs, *ckpts, *deploys, *prompts, *models, *scenarios;
    struct chart *chart, *small;
    struct text *log;
    char filter[128];
    int sample_at;         /* index into the steps, -1 = newest */
    bool ckpt_all;         /* of all runs */
    struct page_want page; /* the row to inspect */
    struct rows *rows;
    struct text *talk;
    struct edit *say;
    bool talking; /* an answer is under way */
    bool is_cut;  /* by a person, before its end */
    int n_stale;  /* answers under way whose talk was dropped */
    bool typing;  /* keys go to the input line; there is a target */
    char target[STORE_NAME_MAX];
    json_t *messages;
    struct buf answer;
    int64_t log_run;
    int log_lines;
};

const struct view *app_view(enum view_id v);
void app_go(struct app *a, enum view_id v);
void app_open_run(struct app *a, int64_t run);
void app_say(struct app *a, enum role role, const char *text);
int64_t app_now(const struct app *a);

/* The app without terminal, loop and feed: what tests draw, too. A zeroed
 * struct; after a failed init, release it all the same. */
int app_init(struct app *a, struct err *err);
void app_release(struct app *a);
/* Shows another snapshot, the former one is not read again: lists follow
 * their selections; at first the newest run is the selected one. */
void app_snap(struct app *a, const struct snap *s);
void app_draw(struct app *a, struct surf *s);
void app_event(struct app *a, const struct ev *ev);

/* ---- what views share ---- */
extern const struct cmd app_cmds[];
extern const int app_n_cmds;
int64_t id_of(const char *text); /* a list's id for a name, > 0 */
void fmt_bytes(int64_t n, char *buf, size_t cap);
void fmt_age(int64_t us, char *buf, size_t cap);
void fmt_secs(double s, char *buf, size_t cap);
void fmt_num(double v, char *buf, size_t cap);
const char *state_word(enum store_run_state s, enum role *r, const char **g);
const struct job_row *job_of(const struct snap *s, int64_t run);
const struct snap_curve *curve_of(const struct snap *s, const char *name);
/* The checkpoint or deployment that is selected, NULL = none. */
const struct store_ckpt *ckpt_selected(const struct app *a);
const struct store_deployment *deploy_selected(const struct app *a);
const struct model_row *model_selected(const struct app *a);
/* The number of the selected scenario in the bank, from 1; 0 = none. */
int64_t scenario_selected(const struct app *a);
/* Text that may have several lines, from its top. */
void draw_wrapped(struct surf *s, struct rect r, enum role role,
                  const char *text);

/* The inspector: rows of a run's data, or the bank by a model's renderer. */
struct rows;
struct rows *rows_new(void); /* NULL when memory is short */
void rows_free(struct rows *v);
void rows_open_run(struct app *a, int64_t run);
void rows_open_model(struct app *a, const char *model, int64_t row);
void rows_go(struct app *a, int64_t row);
void rows_arrived(struct app *a); /* a snapshot with a page may have come */
/* Draws curves of the wanted run; names ends with NULL. */
void draw_curves(struct app *a, struct chart *c, struct surf *s, struct rect r,
                 const char *const *names, const char *title);
void chat_open(struct app *a, const char *target);
void chat_new(struct app *a);
void chat_stop(struct app *a);
void chat_hints(const struct app *a, struct surf *s, int x, int y, int w);
void chat_result(struct app *a, const struct act_result *r);

/* One for each list: made when the app opens. */
struct list *jobs_list(struct app *a);
struct list *ckpts_list(struct app *a);
struct list *deploys_list(struct app *a);
struct list *prompts_list(struct app *a);
struct list *models_list(struct app *a);
struct list *scenarios_list(struct app *a);

#endif
