/* See run_folder.h. */
#include "app/run_folder.h"
#include "core/base/fs.h"
#include "core/base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int run_folder_path(const struct run_folder *r, const char *file, char out[PATH_MAX], struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s/%s", r->folder, file) < PATH_MAX) return 0;
	return err_set(e, ERR_RANGE, "path too long: %s/%s", r->folder, file);
}

/* The last part of the folder's real path, so that "." has a name too. */
static void name_run(struct run_folder *r)
{
	char *real = realpath(r->folder, NULL);
	const char *path = real ? real : r->folder, *slash = strrchr(path, '/');
	const char *name = slash && slash[1] ? slash + 1 : path;
	text_clean(name, strlen(name), r->name, sizeof r->name);
	free(real);
}

int run_folder_open(struct run_folder *r, const char *argument, struct err *e)
{
	*r = (struct run_folder){0};
	char db[PATH_MAX];
	struct stat st;
	if (strlen(argument) >= sizeof r->folder) return err_set(e, ERR_RANGE, "path too long: %.100s…", argument);
	if (stat(argument, &st) != 0) return err_set(e, ERR_NOT_FOUND, "there is no run %s", argument);
	snprintf(r->folder, sizeof r->folder, "%s", argument);
	for (size_t n = strlen(r->folder); n > 1 && r->folder[n - 1] == '/'; n--) r->folder[n - 1] = 0;
	if (S_ISDIR(st.st_mode)) {
		int rc = run_folder_path(r, "run.db", db, e);
		if (rc < 0) return rc;
		if (!fs_exists(db)) return err_set(e, ERR_NOT_FOUND, "%s holds no run.db, so it is no run's folder", r->folder);
	} else {
		snprintf(db, sizeof db, "%s", r->folder);
		char *slash = strrchr(r->folder, '/');
		if (slash == r->folder) slash[1] = 0;
		else if (slash) *slash = 0;
		else snprintf(r->folder, sizeof r->folder, ".");
	}
	name_run(r);
	return store_open(&r->store, db, &(struct store_options){0}, e);
}

void run_folder_close(struct run_folder *r)
{
	store_close(r->store);
	r->store = NULL;
}
