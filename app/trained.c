/* See trained.h. The merged model is what the following stages start from, so that
 * their reference is the model that was trained and adapters never pile up; the
 * folder beside it is what other tools load on the base. */
#include "app/trained.h"

#include "core/base/fault.h"
#include "policy/adapter_file.h"
#include "policy/model_folder.h"

int trained_open(struct model **model, struct model **base, const struct session *s, const char *stage, const char *folder, int heads_kind, struct err *e)
{
	const struct config_lora *c = config_lora(&s->config, stage);
	char text[128];
	int rc = model_folder_open(c ? base : model, folder, s->backend, heads_kind, e);
	if (rc < 0 || !c) return rc;
	rc = adapter_open(model, *base, heads_kind, c, (uint64_t)s->config.run.seed, STREAM_POLICY, e);
	if (rc < 0) return rc;
	adapter_describe(*model, text, sizeof text);
	fprintf(stderr, "%s: %s\n", stage, text);
	return 0;
}

int trained_export_adapter(const struct session *s, const char *name, const struct model *m, const char *base, struct err *e)
{
	char place[64], folder[PATH_MAX];
	snprintf(place, sizeof place, "models/%s/adapter", name);
	int rc = session_path(s, place, folder, e);
	return rc < 0 ? rc : adapter_write(folder, m, base, &s->config.lora, e);
}

int trained_export(const struct session *s, const char *name, const struct model *m, const char *base, struct err *e)
{
	char place[64], folder[PATH_MAX];
	int rc = 0;
	snprintf(place, sizeof place, "models/%s", name);
	TRY(session_path(s, place, folder, e));
	if (m->adapter) TRY(trained_export_adapter(s, name, m, base, e));
	FAULT_POINT("trained.after_adapter", "a stage's adapters are written, if it has any, the model not");
	TRY(session_export(s, folder, m, e));
out:
	return rc;
}
