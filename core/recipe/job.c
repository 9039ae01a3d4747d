/*
 * job: the sft loop over the socket.
 * A step's ops go out in this order: evaluation passes, samples (both on the
 * weights before the step), forward_backward, optim_step, save. Results are
 * collected submit_ahead steps later; a step's points and the cursor behind
 * it are posted together, once.
 */
#include "core/recipe/int.h"

#include "core/clock.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVAL_ROWS 32
#define PAUSE_POLL_MS 300

struct job {
    struct client *c;
    struct sft sft;
    int64_t run, cursor;
    char model[WIRE_NAME_MAX];
    int64_t last_us; /* when the last step was done */
    bool killed;
};

/* ---- submitting ---- */

static int submit(struct job *j, struct op *op, uint64_t *seq,
                  struct err *err) {
    op->model = j->model;
    op->seq = (*seq)++;
    return client_submit(j->c, op, err);
}

static int submit_eval(struct job *j, uint64_t *seq, struct err *err) {
    const struct example *rows[EVAL_ROWS];
    for (int64_t b = 0; b < sft_eval_ops(&j->sft); b++) {
        size_t n = 0;
        for (; n < EVAL_ROWS && (size_t)b * EVAL_ROWS + n < j->sft.n_eval; n++)
            rows[n] = &j->sft.eval[(size_t)b * EVAL_ROWS + n];
        struct op op = {.kind = OP_FORWARD};
        op.pass = sft_pass(&j->sft, rows, n, REDUCE_SUM);
        int rc = submit(j, &op, seq, err);
        sft_pass_release(&op.pass);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* The tokens of a row before the first that counts. */
static struct tok_ids prompt_of(const struct sft *s, int64_t i) {
    const struct example *e = s->n_eval ? &s->eval[i] : &s->rows.row[i];
    struct tok_ids ids = {.id = e->tokens.id};
    while (ids.n < e->tokens.n && e->weights[ids.n] == 0)
        ids.n++;
    if (ids.n == 0)
        ids.n = 1;
    size_t most = (size_t)s->text.context - 1;
    if (ids.n > most) { /* its end, and room to answer */
        size_t skip = ids.n - most;
        ids.id += skip;
        ids.n -= skip;
    }
    return ids;
}

static const char *prompt_text(const struct sft *s, int64_t i) {
    return json_string_value(json_array_get(s->c.prompts, (size_t)i));
}

static int submit_samples(struct job *j, int64_t step, uint64_t *seq,
                          struct err *err) {
    const struct sft *s = &j->sft;
    for (int64_t i = 0; i < s->n_prompts; i++) {
        struct op op = {.kind = OP_SAMPLE};
        char *messages = NULL;
        op.sample =
            (struct op_sample){.target = {.ckpt = ""},
                               .text = "",
                               .n = 1,
                               .max_tokens = (uint32_t)s->c.sample_max,
                               .temperature = (float)s->c.sample_temperature,
                               .top_k = -1,
                               .top_p = 1,
                               .seed = (uint64_t)(s->c.seed + step),
                               .default_stop = true};
        if (prompt_text(s, i)) {
            json_t *m = json_pack("[{s:s, s:s}]", "role", "user", "content",
                                  prompt_text(s, i));
            messages = json_dumps(m, JSON_COMPACT);
            json_decref(m);
            op.sample.prompt = PROMPT_MESSAGES;
            op.sample.text = messages;
        } else {
            struct tok_ids ids = prompt_of(s, i);
            op.sample.prompt = PROMPT_TOKENS;
            op.sample.n_tokens = (uint32_t)ids.n;
            op.sample.tokens = ids.id;
        }
        int rc = submit(j, &op, seq, err);
        free(messages);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int submit_save(struct job *j, const char *name, int64_t step,
                       uint64_t *seq, struct err *err) {
    char id[WIRE_NAME_MAX];
    snprintf(id, sizeof id, "%lld/%s", (long long)j->run, name);
    struct op op = {.kind = OP_SAVE};
    op.save = (struct op_save){CKPT_STATE, id, (uint64_t)step};
    return submit(j, &op, seq, err);
}

static int submit_train(struct job *j, int64_t k, uint64_t *seq,
                        struct err *err) {
    const struct sft_conf *c = &j->sft.c;
    size_t n;
    const struct example **rows = sft_batch(&j->sft, k, &n);
    struct op op = {.kind = OP_FORWARD_BACKWARD};
    op.pass = sft_pass(&j->sft, rows, n, c->reduction);
    int rc = submit(j, &op, seq, err);
    sft_pass_release(&op.pass);
    free(rows);
    struct op step = {.kind = OP_OPTIM_STEP};
    step.optim = (struct op_optim){.lr = sft_lr(&j->sft, k),
                                   .beta1 = c->beta1,
                                   .beta2 = c->beta2,
                                   .eps = c->eps,
                                   .weight_decay = c->decay,
                                   .grad_clip_norm = c->clip};
    return rc < 0 ? -1 : submit(j, &step, seq, err);
}

static bool saves_after(const struct sft *s, int64_t k) {
    return sft_due(k + 1, s->c.save_every) && k + 1 != s->total;
}

static int step_submit(struct job *j, int64_t k, struct err *err) {
    uint64_t seq = sft_seq(&j->sft, k);
    char name[32];
    if (sft_due(k, j->sft.c.eval_every) && submit_eval(j, &seq, err) < 0)
        return -1;
    if (sft_due(k, j->sft.c.sample_every) &&
        submit_samples(j, k, &seq, err) < 0)
        return -1;
    if (submit_train(j, k, &seq, err) < 0)
        return -1;
    snprintf(name, sizeof name, "step-%lld", (long long)(k + 1));
    if (saves_after(&j->sft, k) && submit_save(j, name, k + 1, &seq, err) < 0)
        return -1;
    CHECK(seq == sft_seq(&j->sft, k + 1) || k + 1 == j->sft.total,
          "op numbers of step %lld", (long long)k);
    return 0;
}

/* ---- collecting ---- */

static void point(json_t *points, const char *name, int64_t step, double v) {
    json_array_append_new(points,
                          json_pack("{s:s, s:I, s:o}", "name", name, "step",
                                    (json_int_t)step, "value", json_num(v)));
}

/* Σ w·logp and Σ w of a pass, from its datums and result. */
static void pass_sums(const struct op_pass *p, const struct result *r,
                      double *num, double *den) {
    for (uint32_t i = 0; i < p->n && i < r->n_logprobs; i++)
        for (uint32_t t = 0; t < p->datums[i].n && t < r->logprobs_len[i];
             t++) {
            double w = (double)p->datums[i].field[DATUM_WEIGHTS][t];
            if (w == 0)
                continue;
            *num += w * (double)r->logprobs[i][t];
            *den += w;
        }
}

static int wait_op(struct job *j, uint64_t *seq, struct result *r,
                   struct err *err) {
    *r = (struct result){0};
    return client_wait(j->c, j->model, (*seq)++, r, err);
}

static int collect_eval(struct job *j, int64_t step, uint64_t *seq,
                        json_t *points, struct err *err) {
    const struct example *rows[EVAL_ROWS];
    double num = 0, den = 0;
    for (int64_t b = 0; b < sft_eval_ops(&j->sft); b++) {
        struct result r;
        size_t n = 0;
        for (; n < EVAL_ROWS && (size_t)b * EVAL_ROWS + n < j->sft.n_eval; n++)
            rows[n] = &j->sft.eval[(size_t)b * EVAL_ROWS + n];
        if (wait_op(j, seq, &r, err) < 0)
            return -1;
        struct op_pass p = sft_pass(&j->sft, rows, n, REDUCE_SUM);
        pass_sums(&p, &r, &num, &den);
        sft_pass_release(&p);
        result_release(&r);
    }
    if (den > 0)
        point(points, "test/nll", step, -num / den);
    return 0;
}

static int collect_samples(struct job *j, int64_t step, uint64_t *seq,
                           json_t *samples, struct err *err) {
    for (int64_t i = 0; i < j->sft.n_prompts; i++) {
        struct result r;
        if (wait_op(j, seq, &r, err) < 0)
            return -1;
        const char *text = prompt_text(&j->sft, i);
        struct tok_ids ids = text ? (struct tok_ids){0} : prompt_of(&j->sft, i);
        char *prompt = text ? strdup(text)
                            : tok_decode(j->sft.text.tok, ids.id, ids.n, true);
        double lp = 0;
        const struct sample *s = r.samples;
        for (uint32_t t = 0; r.n_samples && t < s->n; t++)
            lp += (double)s->logprobs[t];
        if (r.n_samples)
            json_array_append_new(
                samples,
                json_pack("{s:I, s:I, s:s, s:s, s:I, s:s, s:f}", "step",
                          (json_int_t)step, "index", (json_int_t)i, "prompt",
                          prompt, "text", s->text, "tokens", (json_int_t)s->n,
                          "stop", stop_reason_name(s->stop), "logprob", lp));
        free(prompt);
        result_release(&r);
    }
    return 0;
}

static int collect_train(struct job *j, int64_t k, uint64_t *seq,
                         json_t *points, struct err *err) {
    const struct sft *s = &j->sft;
    size_t n;
    const struct example **rows = sft_batch(&j->sft, k, &n);
    struct op_pass p = sft_pass(s, rows, n, s->c.reduction);
    struct result fb = {0}, opt = {0};
    double num = 0, den = 0, tokens = 0, counted = 0;
    int rc = wait_op(j, seq, &fb, err);
    if (rc == 0)
        rc = wait_op(j, seq, &opt, err);
    if (rc == 0) {
        int64_t now = clock_mono_us();
        double seconds = (double)(now - j->last_us) / 1e6;
        j->last_us = now;
        pass_sums(&p, &fb, &num, &den);
        for (uint32_t i = 0; i < p.n; i++) {
            tokens += p.datums[i].n;
            for (uint32_t t = 0; t < p.datums[i].n; t++)
                counted += p.datums[i].field[DATUM_WEIGHTS][t] != 0;
        }
        double nll = den != 0 ? -num / den : NAN;
        double norm = result_get(&opt, "unclipped_grad_l2:mean");
        point(points, "train_mean_nll", k, nll);
        point(points, "loss:sum", k, result_get(&fb, "loss:sum"));
        point(points, "num_tokens", k, tokens);
        point(points, "num_loss_tokens", k, counted);
        point(points, "num_sequences", k, (double)n);
        point(points, "learning_rate", k, sft_lr(s, k));
        point(points, "grad_norm", k, norm);
        point(points, "epoch", k, (double)(k / s->per_epoch));
        point(points, "progress", k, (double)k / (double)s->total);
        point(points, "time/step_s", k, seconds);
        point(points, "tokens_per_s", k, seconds > 0 ? tokens / seconds : 0);
        if (result_get(&opt, "skipped_nonfinite:sum") == 1)
            point(points, "skipped_nonfinite", k, 1);
        printf("step %lld/%lld nll %.4g grad %.3g lr %.3g %.0f tok/s\n",
               (long long)k, (long long)s->total, nll, norm, sft_lr(s, k),
               seconds > 0 ? tokens / seconds : 0);
        fflush(stdout);
    }
    result_release(&fb);
    result_release(&opt);
    sft_pass_release(&p);
    free(rows);
    return rc;
}

/* Posts points with the cursor; obeys pause and kill. */
static int post(struct job *j, int64_t cursor, int64_t run_us, json_t *points,
                json_t *samples, struct err *err) {
    char *path = fs_path("/fettle/v1/runs/%lld/points", (long long)j->run);
    json_t *body = json_pack("{s:I, s:I, s:I, s:O, s:O}", "cursor",
                             (json_int_t)cursor, "run_us", (json_int_t)run_us,
                             "planned", (json_int_t)j->sft.total, "points",
                             points, "samples", samples);
    json_t *got = body ? client_call(j->c, "POST", path, body, err) : NULL;
    const char *state = json_string_value(json_object_get(got, "state"));
    bool killed =
        state && (strcmp(state, "killed") == 0 || strcmp(state, "failed") == 0);
    if (!body)
        err_set(err, ERR_BUG, "step %lld: its points are no JSON",
                (long long)cursor);
    j->killed |= killed;
    int rc = got ? (state && strcmp(state, "paused") == 0) : -1;
    json_decref(body);
    json_decref(got);
    free(path);
    return rc;
}

/* 0 = go on, 1 = paused, -1 = error. */
static int step_collect(struct job *j, int64_t k, struct err *err) {
    uint64_t seq = sft_seq(&j->sft, k);
    json_t *points = json_array(), *samples = json_array();
    int64_t before = j->last_us;
    int rc = 0;
    if (sft_due(k, j->sft.c.eval_every))
        rc = collect_eval(j, k, &seq, points, err);
    if (rc == 0 && sft_due(k, j->sft.c.sample_every))
        rc = collect_samples(j, k, &seq, samples, err);
    if (rc == 0)
        rc = collect_train(j, k, &seq, points, err);
    if (rc == 0 && saves_after(&j->sft, k)) {
        struct result r;
        rc = wait_op(j, &seq, &r, err);
        result_release(&r);
    }
    if (rc == 0)
        rc = post(j, k + 1, j->last_us - before, points, samples, err);
    json_decref(points);
    json_decref(samples);
    return rc;
}

static int wait_resumed(struct job *j, struct err *err) {
    char *path = fs_path("/fettle/v1/runs/%lld", (long long)j->run);
    bool paused = true;
    int rc = 0;
    printf("paused\n");
    fflush(stdout);
    while (paused && rc == 0) {
        clock_sleep_ms(PAUSE_POLL_MS);
        json_t *got = client_call(j->c, "GET", path, NULL, err);
        const char *state = json_string_value(json_object_get(got, "state"));
        rc = got ? 0 : -1;
        paused = state && strcmp(state, "paused") == 0;
        j->killed |= state && strcmp(state, "killed") == 0;
        json_decref(got);
    }
    free(path);
    j->last_us = clock_mono_us();
    return rc;
}

/* ---- the loop ---- */

static int loop(struct job *j, struct err *err) {
    int64_t sent = j->cursor, done = j->cursor;
    bool paused = false;
    while (done < j->sft.total && !j->killed) {
        while (!paused && sent < j->sft.total &&
               sent <= done + j->sft.c.ahead) {
            if (step_submit(j, sent, err) < 0)
                return -1;
            sent++;
        }
        if (done < sent) {
            int rc = step_collect(j, done, err);
            if (rc < 0)
                return -1;
            paused |= rc == 1;
            done++;
        }
        if (paused && done == sent && done < j->sft.total) {
            if (wait_resumed(j, err) < 0)
                return -1;
            paused = false;
        }
    }
    return 0;
}

/* Evaluation, samples and the checkpoint `final`, on the last weights. */
static int finish(struct job *j, struct err *err) {
    int64_t k = j->sft.total;
    bool evals = j->sft.c.eval_every > 0,
         samples_on = j->sft.c.sample_every > 0;
    uint64_t out = sft_seq(&j->sft, k), in = out;
    struct result r = {0};
    json_t *points = json_array(), *samples = json_array();
    int rc = evals ? submit_eval(j, &out, err) : 0;
    if (rc == 0 && samples_on)
        rc = submit_samples(j, k, &out, err);
    if (rc == 0)
        rc = submit_save(j, "final", k, &out, err);
    if (rc == 0 && evals)
        rc = collect_eval(j, k, &in, points, err);
    if (rc == 0 && samples_on)
        rc = collect_samples(j, k, &in, samples, err);
    if (rc == 0)
        rc = wait_op(j, &in, &r, err);
    if (rc == 0)
        rc = post(j, k, 0, points, samples, err);
    result_release(&r);
    json_decref(points);
    json_decref(samples);
    return rc < 0 ? -1 : 0;
}

static int create(struct job *j, struct err *err) {
    const struct sft_conf *c = &j->sft.c;
    struct op_create op = {.base = (char *)c->model,
                           .from = "",
                           .lora_rank = (uint32_t)c->lora_rank,
                           .lora_alpha = (float)c->lora_alpha,
                           .seed = (uint64_t)c->seed,
                           .train_attn = true,
                           .train_mlp = true,
                           .train_unembed = true,
                           .tuning = c->tuning,
                           .renderer = (char *)c->renderer};
    if (strcmp(c->renderer, "auto") == 0)
        op.renderer = "";
    return client_create(j->c, j->run, &op, j->model, err);
}

static int job_run(struct job *j, const json_t *row, struct err *err) {
    const char *dir = json_string_value(json_object_get(row, "model_dir"));
    j->cursor = json_integer_value(json_object_get(row, "cursor"));
    if (sft_open(&j->sft, json_object_get(row, "config"), dir ? dir : "", err) <
        0)
        return -1;
    printf("run %lld: %zu rows, %zu held out, %zu cut, %zu skipped, step %lld "
           "of %lld\n",
           (long long)j->run, j->sft.n_train, j->sft.n_eval, j->sft.rows.cut,
           j->sft.rows.skipped, (long long)j->cursor, (long long)j->sft.total);
    if (j->sft.c.packs)
        printf("packed %zu rows into %u bins of %zu tokens, %.0f %% full\n",
               j->sft.n_train, j->sft.epoch.n_bins, j->sft.most,
               100 * sft_fill(&j->sft));
    fflush(stdout);
    j->last_us = clock_mono_us();
    if (create(j, err) < 0 || loop(j, err) < 0)
        return -1;
    return j->killed ? 0 : finish(j, err);
}

static void report(struct job *j, int rc, const struct err *e) {
    struct err ignored = {0};
    char *path = fs_path("/fettle/v1/runs/%lld/finish", (long long)j->run);
    json_t *body = json_pack("{s:s, s:s}", "state", rc < 0 ? "failed" : "done",
                             "error", rc < 0 ? e->msg : "");
    json_t *got = client_call(j->c, "POST", path, body, &ignored);
    printf("%s%s\n", rc < 0 ? "failed: " : "done", rc < 0 ? e->msg : "");
    fflush(stdout);
    json_decref(body);
    json_decref(got);
    free(path);
}

int recipe_job(const char *home, int64_t run, struct err *err) {
    struct job j = {.run = run};
    char *lock = fs_path("%s/run/job-%lld.lock", home, (long long)run);
    char *path = fs_path("/fettle/v1/runs/%lld", (long long)run);
    json_t *row = NULL;
    int rc = -1, fd = fs_lock(lock, err);
    if (fd < 0 ||
        !(j.c = client_open(&(struct client_opts){.home = home}, err)))
        goto out;
    row = client_call(j.c, "GET", path, NULL, err);
    if (!row)
        goto out;
    const char *state = json_string_value(json_object_get(row, "state"));
    bool over =
        state && (strcmp(state, "done") == 0 || strcmp(state, "failed") == 0 ||
                  strcmp(state, "killed") == 0);
    rc = 0;
    if (!over) {
        rc = job_run(&j, row, err);
        if (!j.killed)
            report(&j, rc, err);
    }
out:
    json_decref(row);
    sft_close(&j.sft);
    client_close(j.c);
    if (fd >= 0)
        close(fd);
    free(lock);
    free(path);
    return rc;
}

/* Whether the job's memory is there, by its longest row. */
static int fits(const struct sft *s, const char *model_dir, struct err *err) {
    struct plan_job job = {.lora = {.rank = (int32_t)s->c.lora_rank,
                                    .alpha = (float)s->c.lora_alpha,
                                    .attn = true,
                                    .mlp = true,
                                    .unembed = true},
                           .batch_size = s->c.batch};
    struct plan p;
    if (s->c.packs)
        job.max_length = (int64_t)s->most;
    for (size_t i = 0; i < s->rows.n; i++)
        if ((int64_t)s->rows.row[i].tokens.n > job.max_length)
            job.max_length = (int64_t)s->rows.row[i].tokens.n;
    struct model *m = model_outline(model_dir, err);
    if (!m)
        return -1;
    plan_make(m, &job, plan_memory(), &p);
    model_close(m);
    return plan_check(&p, &job, err);
}

int recipe_check(const struct recipe *r, json_t *config, const char *model_dir,
                 int64_t *steps, struct err *err) {
    struct sft s;
    (void)r;
    if (sft_open(&s, config, model_dir, err) < 0)
        return -1;
    if (steps)
        *steps = s.total;
    int rc = fits(&s, model_dir, err);
    if (s.text.render)
        json_object_set_new(config, "renderer",
                            json_string(render_name(s.text.render)));
    sft_close(&s);
    return rc;
}
