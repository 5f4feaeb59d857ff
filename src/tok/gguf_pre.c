/* How a GGUF's byte-level tokenizer cuts text before the merges, by the name in tokenizer.ggml.pre. */
#include <string.h>

#include "tok/internal.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BLANKS "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define CJK_KANA "[一-龥぀-ゟ゠-ヿ]+"
#define ASCII_SYMBOL_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
#define CASED(end) \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" end "|" \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" end "|"
#define SPACES(n) "\\s{" n "}(?!\\S)|"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"

static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char llama3[] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" SYMBOLS "|" BLANKS;
static const char qwen2[] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" SYMBOLS "|" BLANKS;
static const char qwen35[] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BLANKS;
static const char o200k[] = CASED(CONTRACTIONS "?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANKS;
static const char o200k_digit[] = CASED(CONTRACTIONS "?") "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANKS;
static const char tekken[] = CASED("") "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BLANKS;
static const char kimi[] = "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTIONS "?|"
                           "[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" CONTRACTIONS "?|\\p{N}{1,3}|" SYMBOLS "|" BLANKS;
static const char bailing[] = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+";
static const char jais2[] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" SYMBOLS "|\\s*[\\r\\n]+|"
                            SPACES("512") SPACES("256") SPACES("128") SPACES("64") SPACES("32") SPACES("16") SPACES("8") SPACES("4") SPACES("1,2") "\\s{1}";
static const char deepseek3[] = ASCII_SYMBOL_WORD "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|" BLANKS;
static const char poro[] = " ?[^(\\s|.,!?…。，、।۔،)]+";
/* What an editor that normalises would change is escaped. */
static const char alphabetic[] =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

static const struct gguf_pre pres[] = {
    {.name = "default", .regex = {"[\\p{P}\\$\\+<=>\\^~\\|]+", gpt2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.name = "gpt-2", .regex = {gpt2}},
    {.name = "phi-2", .regex = {gpt2}},
    {.name = "olmo", .regex = {gpt2}, .nfc = true},
    {.name = "mpt", .regex = {gpt2}, .nfc = true},
    {.name = "jais", .regex = {gpt2}},
    {.name = "trillion", .regex = {gpt2}},
    {.name = "granite-docling", .regex = {gpt2}},
    {.name = "gigachat", .regex = {gpt2}},
    {.name = "a.x-4.0", .regex = {gpt2}},
    {.name = "mellum", .regex = {gpt2}},
    {.name = "modern-bert", .regex = {gpt2}},
    {.name = "exaone4", .regex = {gpt2}},
    {.name = "jina-es", .regex = {gpt2}},
    {.name = "jina-de", .regex = {gpt2}},
    {.name = "jina-v2-es", .regex = {gpt2}},
    {.name = "jina-v2-de", .regex = {gpt2}},
    {.name = "jina-v1-en", .regex = {gpt2}},
    {.name = "jina-v2-code", .regex = {gpt2}},
    {.name = "roberta-bpe", .regex = {gpt2}},
    {.name = "smollm", .regex = {"\\p{N}", gpt2}},
    {.name = "starcoder", .regex = {"\\p{N}", gpt2}},
    {.name = "refact", .regex = {"\\p{N}", gpt2}},
    {.name = "command-r", .regex = {"\\p{N}", gpt2}, .nfc = true},
    {.name = "codeshell", .regex = {"\\p{N}", gpt2}},
    {.name = "mellum2", .regex = {"\\p{N}", gpt2}},
    {.name = "exaone", .regex = {"\\p{N}", gpt2}},
    {.name = "minerva-7b", .regex = {"\\p{N}", gpt2}},
    {.name = "falcon", .regex = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", gpt2, "[0-9][0-9][0-9]"}},
    {.name = "llama-bpe", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "llama3", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "llama-v3", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "falcon3", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "falcon-h1", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "pixtral", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "midm-2.0", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "lfm2", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "jina-v5-nano", .regex = {llama3}, .ignore_merges = true, .add_bos = true},
    {.name = "dbrx", .regex = {llama3}},
    {.name = "smaug-bpe", .regex = {llama3}},
    {.name = "glm4", .regex = {llama3}},
    {.name = "glm5", .regex = {llama3}},
    {.name = "chatglm-bpe", .regex = {llama3}},
    {.name = "qwen2", .regex = {qwen2}, .nfc = true},
    {.name = "deepseek-r1-qwen", .regex = {qwen2}, .nfc = true},
    {.name = "megrez", .regex = {qwen2}, .nfc = true},
    {.name = "stablelm2", .regex = {qwen2}, .nfc = true},
    {.name = "f2llmv2", .regex = {qwen2}, .nfc = true},
    {.name = "kormo", .regex = {qwen2}},
    {.name = "hunyuan", .regex = {qwen2}},
    {.name = "grok-2", .regex = {qwen2}},
    {.name = "solar-open", .regex = {qwen2}},
    {.name = "qwen35", .regex = {qwen35}, .nfc = true},
    {.name = "gpt-4o", .regex = {o200k}},
    {.name = "llama4", .regex = {o200k}},
    {.name = "kanana2", .regex = {o200k}},
    {.name = "minimax-m2", .regex = {o200k}},
    {.name = "granite-embed-multi-97m", .regex = {o200k}},
    {.name = "youtu", .regex = {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" CJK_KANA, o200k_digit}},
    {.name = "kimi-k2", .regex = {kimi}},
    {.name = "tekken", .regex = {tekken}, .ignore_merges = true, .add_bos = true},
    {.name = "deepseek-llm", .regex = {"[\r\n]", alphabetic, "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", "[一-龥ࠀ-一가-퟿]+", "\\p{N}+"}},
    {.name = "deepseek-coder", .regex = {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-퟿]+", "\\p{N}"}},
    {.name = "deepseek-v3", .regex = {"\\p{N}{1,3}", CJK_KANA, deepseek3}},
    {.name = "hunyuan-dense", .regex = {"\\p{N}{1,3}", CJK_KANA, deepseek3}},
    {.name = "joyai-llm", .regex = {"\\p{N}{1,3}", CJK_KANA, deepseek3}},
    {.name = "poro-chat", .regex = {poro}},
    {.name = "bloom", .regex = {poro}},
    {.name = "gpt3-finnish", .regex = {poro}},
    {.name = "viking", .regex = {poro, "\\p{N}"}},
    {.name = "seed-coder", .regex = {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" BLANKS}},
    {.name = "bailingmoe", .regex = {bailing}},
    {.name = "bailingmoe2", .regex = {bailing}},
    {.name = "llada-moe", .regex = {bailing}},
    {.name = "exaone-moe", .regex = {CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {.name = "jais-2", .regex = {jais2}},
    {.name = "ufakzeka", .regex = {"[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" SYMBOLS "|" BLANKS}},
    {.name = "chameleon", .regex = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}", "[\\p{P}!-/:-@\\[-`{-~]", gpt2}, .add_bos = true},
    {.name = "superbpe", .regex = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}},
};

const struct gguf_pre *gguf_pre_find(const char *name)
{
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (!strcmp(pres[i].name, name)) return &pres[i];
    return NULL;
}

const char *gguf_pre_name(const char *const *regex, size_t n, bool nfc, bool ignore_merges)
{
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        const struct gguf_pre *p = &pres[i];
        size_t k = 0;
        while (k < n && k < sizeof p->regex / sizeof *p->regex && p->regex[k] && !strcmp(p->regex[k], regex[k])) k++;
        const bool all = k == n && (n == sizeof p->regex / sizeof *p->regex || !p->regex[n]);
        if (all && n && p->nfc == nfc && p->ignore_merges == ignore_merges) return p->name;
    }
    return NULL;
}
