/* Robust SAIL: the worst label of a set around the labeler's. All answers and labels enumerated, the mean update is the gradient of E[max over the set] with the sampler differentiated;
 * the set's two ends are tried one by one here, those of a KL ball found by halving. */
#include "objective/enumerate.h"

static const double beta = 0.7, rho = 0.15, nu = 0.3;

static double p_of(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }
static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double cross_entropy(double z, double p) { return p * softplus(-z) + (1 - p) * softplus(z); }

enum kind { SHIFT, CHI2, KL };
static const char *const kind_name[] = {"shift", "chi-square", "kl"};
struct set {
    enum kind kind;
    bool hard; /* the labeler says 1 for the likelier answer */
};
static struct objective_params params_of(enum kind kind, double size)
{
    return (struct objective_params){.beta = beta, .gamma = 1, .robust_rho = kind == SHIFT ? size : 0, .chi2_nu = kind == CHI2 ? size : 0, .kl_nu = kind == KL ? size : 0};
}

static double label_of(const struct set *s, int i, int j) { return !s->hard ? p_of(i, j) : i == j ? 0.5 : tree_reward[i] > tree_reward[j] ? 1 : 0; }

static long double kl_of_labels(long double P, long double p) { return (P > 0 ? P * log1pl((P - p) / p) : 0) + (P < 1 ? (1 - P) * log1pl((p - P) / (1 - p)) : 0); }

/* The ball's end between p and `side`, 0 or 1. */
static double kl_end(double p, double size, int side)
{
    long double inside = p, outside = side;
    if (kl_of_labels(outside, p) <= size) return side;
    for (int i = 0; i < 200; i++) {
        const long double half = (inside + outside) / 2;
        *(kl_of_labels(half, p) <= size ? &inside : &outside) = half;
    }
    return (double)inside;
}

static double worst(const struct set *s, int i, int j, double z)
{
    const double p = label_of(s, i, j), r = s->kind == CHI2 ? sqrt(nu * p * (1 - p)) : rho;
    const double low = s->kind == KL ? kl_end(p, nu, 0) : s->kind == CHI2 ? fmax(0, p - r) : p - r, high = s->kind == KL ? kl_end(p, nu, 1) : s->kind == CHI2 ? fmin(1, p + r) : p + r;
    return fmax(cross_entropy(z, low), cross_entropy(z, high));
}

static double robust_J(const struct tree *t, const double *theta, const void *set)
{
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            const double z = beta * ((logp[i] - ref[i]) - (logp[j] - ref[j]));
            if (i != j && !(fabs(z) > 0.01)) fail_msg("answers %d and %d are at the kink", i, j);
            sum += exp(logp[i] + logp[j]) * worst(set, i, j, z);
        }
    return sum;
}

static void the_worst_label_is_the_gradient(void **state)
{
    (void)state;
    static const struct set sets[] = {{.kind = SHIFT}, {.kind = SHIFT, .hard = true}, {.kind = CHI2}, {.kind = KL}};
    static const enum baseline baselines[] = {BASELINE_NONE, BASELINE_LOG2};
    for (int tree = 0; tree < 2; tree++)
        for (int k = 0; k < 8; k++) {
            const struct tree *t = &trees[tree];
            const struct set *s = &sets[k / 2];
            struct objective_params p = params_of(s->kind, s->kind == SHIFT ? rho : nu);
            p.baseline = baselines[k % 2];
            double want[MAX_PARAM], got[MAX_PARAM] = {0}, logp[MAX_ANSWER];
            tree_differences(t, robust_J, s, want);
            tree_all(t, tree_theta, logp);
            for (int i = 0; i < t->n_answer; i++)
                for (int j = 0; j < t->n_answer; j++) {
                    struct rows r;
                    rows_begin(&r);
                    int a = rows_add(&r, t, tree_theta, i, 0, SOURCE_POLICY), b = rows_add(&r, t, tree_theta, j, 0, SOURCE_POLICY);
                    double label = label_of(s, i, j);
                    if (s->hard && label == 0) { // the winner comes first
                        const int swap = a;
                        a = b;
                        b = swap;
                        label = 1;
                    }
                    rows_pair(&r, (struct pair){.win = a, .lose = b, .route = ROUTE_PR, .p = label});
                    rows_update(&r, t, tree_theta, objective_find("sail"), &p, 1, exp(logp[i] + logp[j]), got);
                }
            assert_same_gradient(t, s->hard ? "shift of hard labels" : kind_name[s->kind], got, want);
        }
}

/* The shift adds rho |z| to the loss; drawn labels have the same mean; data rows and self-labels know no labeler. */
static void the_shift_adds_rho_z(void **state)
{
    (void)state;
    for (int route = 0; route < ROUTE_COUNT; route++) {
        double loss[2], z = 0;
        for (int k = 0; k < 2; k++) {
            struct rows r;
            rows_begin(&r);
            rows_add(&r, &trees[1], tree_theta, 1, 0, SOURCE_POLICY);
            rows_add(&r, &trees[1], tree_theta, 6, 0, SOURCE_POLICY);
            rows_pair(&r, (struct pair){.win = 0, .lose = 1, .route = (enum route)route, .p = 1});
            const struct objective_params p = {.beta = beta, .rho = 1, .pi = 1, .robust_rho = k ? rho : 0};
            struct objective_stats s = {0};
            objective_eval(objective_find("sail"), &p, &r.b, 1, &s);
            loss[k] = s.loss;
            z = beta * ((r.logp[0] - r.logp_ref[0]) - (r.logp[1] - r.logp_ref[1]));
        }
        assert_near(loss[1] - loss[0], route == ROUTE_PR ? rho * fabs(z) : 0, 1e-14, 1e-13);
    }
}

/* One judged pair at z: its loss, and what the coefficient says of the label, -beta (P - s). */
static double loss_at(enum kind kind, double size, double label, double z, double *P)
{
    struct objective_params p = params_of(kind, size);
    p.gamma = 0;
    double logp[2] = {z / beta, 0}, ref[2] = {0, 0}, coef[2];
    int32_t one[2] = {1, 1};
    struct pair q = {.win = 0, .lose = 1, .route = ROUTE_PR, .p = label, .weight = 1};
    struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = one, .logp = logp, .logp_ref = ref, .n_pair = 1, .pair = &q, .coef = coef};
    struct objective_stats s = {0};
    objective_eval(objective_find("sail"), &p, &b, 1, &s);
    assert_true(isfinite(s.loss) && isfinite(coef[0]) && coef[0] == -coef[1]);
    if (P) *P = sigmoid(z) - coef[0] / beta;
    return s.loss;
}

static const double labels[] = {1e-12, 1e-4, 0.2, 0.5, 0.93, 1 - 1e-9}, far[] = {-1e4, -40, -0.3, 0.2, 7, 1e4};
enum { LABELS = sizeof labels / sizeof *labels, FAR = sizeof far / sizeof *far };

/* Against every label on a fine grid that the ball holds, against halving, and on the ball's own border. */
static void the_kl_balls_end_is_the_worst_label(void **state)
{
    (void)state;
    static const double sizes[] = {1e-14, 1e-6, 1e-3, 0.1, 0.6, 3, 20, 30};
    enum { GRID = 20000 };
    for (int l = 0; l < LABELS; l++)
        for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++)
            for (int z = 0; z < FAR; z++) {
                double P, best = -INFINITY;
                const double loss = loss_at(KL, sizes[n], labels[l], far[z], &P);
                assert_near(P, kl_end(labels[l], sizes[n], far[z] < 0), 2e-16, 1e-13);
                assert_near(loss, cross_entropy(far[z], P), 1e-13, 1e-12);
                for (int g = 0; g <= GRID; g++) {
                    const double at = (double)g / GRID;
                    if (kl_of_labels(at, labels[l]) <= sizes[n]) best = fmax(best, cross_entropy(far[z], at));
                }
                if (!(best <= loss * (1 + 1e-12) && (isinf(best) || best >= loss - 1.01 * fabs(far[z]) / GRID)))
                    fail_msg("p %g, nu %g, z %g: the loss is %.17g, the worst on the grid %.17g", labels[l], sizes[n], far[z], loss, best);
            }
}

/* No radius: the soft label to the bit. A small one: chi-square's of twice the radius. A large one: the other answer certainly won. Ties keep their label. */
static void the_ends_of_the_radius(void **state)
{
    (void)state;
    for (int l = 0; l < LABELS; l++)
        for (int z = 0; z < FAR; z++) {
            assert_true(loss_at(KL, 0, labels[l], far[z], NULL) == loss_at(SHIFT, 0, labels[l], far[z], NULL));
            assert_near(loss_at(KL, 1e6, labels[l], far[z], NULL), fabs(far[z]) + log1p(exp(-fabs(far[z]))), 0, 1e-13);
            if (labels[l] < 0.1 || labels[l] > 0.99) continue; // a ball that reaches the border has no other side to compare
            double ball, square, at_zero;
            loss_at(KL, 1e-9, labels[l], far[z], &ball);
            loss_at(CHI2, 2e-9, labels[l], far[z], &square);
            loss_at(KL, 1e-9, labels[l], 0, &at_zero);
            assert_near(ball - labels[l], square - labels[l], 1e-15, 1e-3);
            assert_true((ball - labels[l]) * far[z] < 0);
            assert_near(at_zero, labels[l], 1e-15, 0);
        }
}

/* The worst label is at rest in the gradient, and the coefficient is the slope of the loss all the same. */
static void coefficients_are_slopes_of_the_worst_loss(void **state)
{
    (void)state;
    for (enum kind kind = SHIFT; kind <= KL; kind++)
        for (int l = 0; l < LABELS; l++)
            for (double z = -3.1; z < 3; z += 0.7) {
                const double h = 2e-3 * beta;
                double P, f[4];
                loss_at(kind, 0.1, labels[l], z, &P);
                for (int k = 0; k < 4; k++) f[k] = loss_at(kind, 0.1, labels[l], z + h * (k < 2 ? k - 2 : k - 1), NULL);
                const double slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h);
                if (fabs(slope - (sigmoid(z) - P)) > 1e-9) fail_msg("%s, p %g, z %g: the loss falls by %.12g, the coefficient says %.12g", kind_name[kind], labels[l], z, slope, sigmoid(z) - P);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_worst_label_is_the_gradient), cmocka_unit_test(the_shift_adds_rho_z),
                                       cmocka_unit_test(the_kl_balls_end_is_the_worst_label), cmocka_unit_test(the_ends_of_the_radius),
                                       cmocka_unit_test(coefficients_are_slopes_of_the_worst_loss)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
